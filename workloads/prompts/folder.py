"""A prompt folder: what is static, templates for what is dynamic, and inputs to fill them.

system_prompt.txt                 static; may name variables, e.g. {{ tenant }}
context/*.txt, context/*.md       static documents, in the order of their names (optional)
few_shot_examples.txt             static; may name variables (optional)
tools.json                        static tool schemas, a list as the chat API takes it (optional)
variables.yaml                    values of the variables in static files (optional)
dynamic_templates/NAME.jinja2     the user message
dynamic_inputs/NAME.txt           one input a line, or NAME.jsonl: one object of values a line
                                  (optional: without, values are made up)

The static texts make one system message, in the order above, joined by a line break.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import jinja2.meta
import jinja2.nodes

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.yaml_file import parse
from aot.workloads.requests.request import Message

# Undefined names are errors: an empty place in a prompt would quietly change every length.
JINJA = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=False)
MADE_UP = 3
"""Made-up inputs for a template without a file of inputs."""

Kind = Literal["system", "document", "examples"]


@dataclass(frozen=True, slots=True)
class StaticText:
    """One static file as it goes into the system message, from `start` to `end` (characters)."""

    kind: Kind
    file: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class PromptFolder:
    """The texts of one prompt folder, not yet rendered."""

    folder: Path
    files: tuple[tuple[Kind, Path], ...]
    tools: tuple[dict[str, Any], ...]
    templates: dict[str, Path]
    variables: dict[str, str]

    def static(self, variables: Mapping[str, str]) -> tuple[StaticText, ...]:
        """The static texts with their variables filled in; `variables` go before the folder's."""
        values = {**self.variables, **variables}
        texts: list[StaticText] = []
        start = 0
        for kind, path in self.files:
            text = (
                text_of(path) if kind == "document" else _render(path, values, "--var NAME=VALUE")
            )
            text = text.removesuffix("\n")
            texts.append(StaticText(kind, str(path.relative_to(self.folder)), text, start))
            start += len(text) + 1
        return tuple(texts)

    def system(self, variables: Mapping[str, str]) -> Message:
        """The system message."""
        texts = [part.text for part in self.static(variables)]
        return {"role": "system", "content": "\n".join(texts)}

    def user(self, template: str, values: Mapping[str, str]) -> Message:
        """The user message of one template with `values` filled in."""
        hint = f"dynamic_inputs/{template}.jsonl"
        return {"role": "user", "content": _render(self.templates[template], values, hint)}

    def inputs(self, template: str) -> list[dict[str, str]]:
        """Values for a template: from its file of inputs, else made up; all different."""
        names = variables_of(self.templates[template])
        plain = self.folder / "dynamic_inputs" / f"{template}.txt"
        rich = plain.with_suffix(".jsonl")
        if rich.exists():
            return [_values(rich, n, line) for n, line in _lines(rich)]
        if not plain.exists():
            return [_made_up(names, n) for n in range(MADE_UP)]
        # A line is the question; a template with one variable may call it as it likes.
        name = "question" if "question" in names or len(names) != 1 else names[0]
        return [
            {**_made_up(names, n), "question": line.strip(), name: line.strip()}
            for n, (_, line) in enumerate(_lines(plain))
        ]


def _made_up(names: list[str], number: int) -> dict[str, str]:
    """A value for each name, another one for each number."""
    return {name: f"{_DIFFERENT[number % MADE_UP]} {number} {name}" for name in names}


_DIFFERENT = ("alpha", "Zulu", "9, in other words")


def read(folder: Path) -> PromptFolder:
    """The folder. Raises UsageError naming what is missing or cannot be read."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such prompt folder")
    system, examples = folder / "system_prompt.txt", folder / "few_shot_examples.txt"
    documents = sorted(
        p for p in (folder / "context").glob("*") if p.suffix in (".txt", ".md") and p.is_file()
    )
    files: list[tuple[Kind, Path]] = [("document", path) for path in documents]
    if system.exists() or not files:
        files.insert(0, ("system", system))
    if examples.exists():
        files.append(("examples", examples))
    for _, path in files:
        text_of(path)
    templates = {p.stem: p for p in sorted((folder / "dynamic_templates").glob("*.jinja2"))}
    if not templates:
        raise UsageError(f"{folder}/dynamic_templates: no *.jinja2 in it, so nothing is dynamic")
    for given in (folder / "dynamic_inputs").glob("*.*"):
        if given.suffix in (".txt", ".jsonl") and given.stem not in templates:
            raise UsageError(
                f"{given}: there is no template of that name; templates: {', '.join(templates)}"
            )
    return PromptFolder(
        folder, tuple(files), tools_of(folder / "tools.json"), templates, _variables(folder)
    )


def ignored(folder: Path) -> list[Path]:
    """What lies in context/ and is not taken: other kinds of files, folders."""
    entries = sorted((folder / "context").glob("*"))
    return [p for p in entries if p.suffix not in (".txt", ".md") and not p.name.startswith(".")]


def variables_of(path: Path) -> list[str]:
    """Names that a template uses, in alphabetical order."""
    try:
        return sorted(jinja2.meta.find_undeclared_variables(parsed(path)))
    except jinja2.TemplateSyntaxError as error:  # e.g. a filter that there is not
        raise UsageError(f"{path}:{error.lineno}: template syntax: {error.message}") from None


def parsed(path: Path) -> jinja2.nodes.Template:
    """The syntax tree of a template; UsageError with file and line when it has none."""
    try:
        return JINJA.parse(text_of(path))
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: template syntax: {error.message}") from None


def tools_of(path: Path) -> tuple[dict[str, Any], ...]:
    """Tool schemas of a file, if it is there. UsageError for what is no list of them."""
    if not path.exists():
        return ()
    try:
        tools = json.loads(text_of(path))
    except ValueError as error:
        line = getattr(error, "lineno", 1)
        raise UsageError(f"{path}:{line}: not JSON: {error}") from None
    if not isinstance(tools, list) or not all(isinstance(t, dict) for t in tools):
        raise UsageError(f"{path}: expected a list of tool schemas, as the chat API takes it")
    return tuple(tools)


def _variables(folder: Path) -> dict[str, str]:
    path = folder / "variables.yaml"
    if not path.exists():
        return {}
    values = parse(path, text_of(path), as_texts=True).data
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected names and values")
    empty = [k for k, v in values.items() if not isinstance(v, str) or not v]
    if empty:
        raise UsageError(f"{path}: variable '{empty[0]}' has no value (a text is expected)")
    return values


def _values(path: Path, number: int, line: str) -> dict[str, str]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{path}:{number}: not JSON: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}:{number}: expected an object of values")
    return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}


def _lines(path: Path) -> list[tuple[int, str]]:
    return [(n, x) for n, x in enumerate(text_of(path).splitlines(), 1) if x.strip()]


def text_of(path: Path) -> str:
    """A file of the folder as it is; UsageError when it cannot be read."""
    try:
        # newline="": what reaches the model must be what is in the file, CRLF included.
        with path.open(encoding="utf-8", newline="") as handle:
            return handle.read()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file in the prompt folder") from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None


def _render(path: Path, values: Mapping[str, str], where: str) -> str:
    try:
        return JINJA.from_string(text_of(path)).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: template syntax: {error.message}") from None
    except jinja2.UndefinedError as error:
        known = ", ".join(sorted(values)) or "none"
        raise UsageError(f"{path}: {error.message}; known: {known}; give it by {where}") from None
    except Exception as error:  # whatever a template's own expressions may raise
        raise UsageError(
            f"{path}: cannot be rendered: {type(error).__name__}: {error}; does {where} give it "
            "values of the kind that it needs?"
        ) from None
