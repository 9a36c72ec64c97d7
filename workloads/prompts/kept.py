"""Prompts as people keep them: a messages JSON, one request body, a LangChain or promptfoo file, a
.prompty, a template, a plain system.md, a folder of them. Read twice, with two values for whatever
is filled in, so that what is static shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2.sandbox import ImmutableSandboxedEnvironment

from aot.configs.kernel.chains import common
from aot.configs.kernel.errors import UsageError
from aot.workloads.prompts import folder as prompts
from aot.workloads.requests import body
from aot.workloads.requests.request import FILLERS, Message, Prefix, Schedule, Tools

TEXTS = (".md", ".txt")
TEMPLATES = (".j2", ".jinja", ".jinja2")
PROMPTY = ".prompty"
PROGRAMS = (".py", ".js", ".ts", ".mjs")
YAML = (".yaml", ".yml")
ROLES = ("system", "developer", "user", "assistant")
VALUES = ("Alpha beta gamma delta.", "Zulu yankee xray whiskey.")
"""For whatever is filled in: two texts that part at their first letter."""
PREFIX = "static"
_SECTION = re.compile(r"(?m)^(system|developer|user|assistant):[ \t]*$")
_DOUBLE = re.compile(r"\{\{-?\s*[\w.\[\]'\"| ()-]+?-?\}\}|\$\{[\w.]+\}")
_SINGLE = re.compile(r"(?<!\{)\{[A-Za-z_]\w*\}(?!\})")
Fill = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Kept:
    """One prompt with its values filled in, in two ways."""

    chats: tuple[list[Message], list[Message]]
    tools: Tools = ()

    @property
    def has_static_part(self) -> bool:
        """Whether anything is said before what is filled in."""
        for one, other in zip(*self.chats, strict=False):
            texts = [
                m["content"] if isinstance(m.get("content"), str) else "" for m in (one, other)
            ]
            if one != other:
                return bool(self.tools) or common(*texts) > 0
            if one.get("content"):
                return True
        return bool(self.tools)

    def schedule(self, name: str) -> Schedule:
        """As a static prefix without requests: the messages that both have, and the rest."""
        first, second = self.chats
        same = 0
        while same < min(len(first), len(second)) - 1 and first[same] == second[same]:
            same += 1
        probes = (tuple(first[same:]), tuple(second[same:]))
        prefix = Prefix(PREFIX, tuple(first[:same]), probes, self.tools)
        return Schedule(name, 0, "closed", 1, 1, True, 300.0, {PREFIX: prefix}, ())


def is_kept(path: Path) -> bool:
    """Whether a path is a prompt in one of these forms, and no log and no folder of our own."""
    if path.is_dir():
        return bool(_messages_of_folder(path)) and not (path / "dynamic_templates").exists()
    if path.suffix in (*TEXTS, *TEMPLATES, *PROGRAMS, *YAML, PROMPTY):
        return True
    if path.suffix != ".json" or not path.is_file():
        return False
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(data, dict):
        return _are_messages(data)
    return bool(_endpoint(data)) or "_type" in data or "prompts" in data


def read(path: Path) -> Kept:
    """UsageError naming file and remedy for what cannot be read."""
    if path.is_dir():
        return _filled(
            _messages_of_folder(path), _placeholders(_DOUBLE), prompts.tools_of(path / "tools.json")
        )
    if path.suffix in PROGRAMS:
        raise UsageError(
            f"{path}: is a program, which is not run; save its prompt as text or JSON, or record "
            "what it sends (aot capture, aot.pytest)"
        )
    try:
        text = path.read_text(encoding="utf-8")
        return _read(path, text)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    except (ValueError, yaml.YAMLError, jinja2.TemplateError) as error:
        raise UsageError(f"{path}: no prompt that is known: {error}") from None


def _read(path: Path, text: str) -> Kept:
    if path.suffix in TEMPLATES:
        return _filled([{"role": "system", "content": text}], _rendered)
    if path.suffix == PROMPTY:
        return _filled(_sections(text), _placeholders(_DOUBLE))
    if path.suffix in TEXTS:
        return _filled([{"role": "system", "content": text}], _placeholders(_DOUBLE))
    data = yaml.safe_load(text) if path.suffix in YAML else json.loads(text)
    if isinstance(data, dict) and data.get("prompts"):
        return _promptfoo(path, data["prompts"])
    if isinstance(data, dict) and "_type" in data:
        return _filled(_langchain(data), _placeholders(_SINGLE, _DOUBLE))
    return _of_data(data)


def _of_data(data: Any) -> Kept:
    """Messages, or the body of a request of any endpoint."""
    if _are_messages(data):
        return _filled(data, _placeholders(_DOUBLE))
    endpoint = _endpoint(data) if isinstance(data, dict) else None
    if endpoint is None:
        raise ValueError("expected messages, or a request body with messages, input or prompt")
    body.check(data, endpoint)
    messages, tools = body.chat(endpoint, data)
    return _filled(messages, _placeholders(_DOUBLE), tools)


def _endpoint(data: Mapping[str, Any]) -> str | None:
    if isinstance(data.get("messages"), list):
        return "messages" if "system" in data else "chat"
    if "input" in data:
        return "responses"
    return "completions" if isinstance(data.get("prompt"), str) else None


def _are_messages(data: Any) -> bool:
    return isinstance(data, list) and bool(data) and all(
        isinstance(m, dict) and m.get("role") in (*ROLES, "tool") for m in data
    )  # fmt: skip


def _messages_of_folder(path: Path) -> list[Message]:
    """Of a folder with a text for each role (system.md, user.md), or a system prompt alone."""
    texts = {p.stem: p for p in sorted(path.iterdir()) if p.suffix in TEXTS}
    made = [
        {"role": role, "content": prompts.text_of(texts[role])}
        for role in ROLES if role in texts
    ]  # fmt: skip
    # Beside other parts of a prompt folder it is one, whose dynamic templates are missing.
    alone = not any((path / part).exists() for part in ("context", "few_shot_examples.txt"))
    if not made and "system_prompt" in texts and alone:
        made = [{"role": "system", "content": prompts.text_of(texts["system_prompt"])}]
    return made


def _sections(text: str) -> list[Message]:
    """Of a .prompty: front matter, then a section for each message."""
    behind = re.sub(r"\A---\n.*?\n---\n", "", text, count=1, flags=re.S)
    parts = _SECTION.split(behind)
    if len(parts) < 3:
        raise ValueError("no 'system:' or 'user:' in a line of its own")
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return [{"role": role, "content": said.strip("\n")} for role, said in pairs]


def _langchain(data: Mapping[str, Any]) -> list[Message]:
    """A serialised prompt template: `template`, or `messages` with a template each."""
    if isinstance(data.get("template"), str):
        return [{"role": "user", "content": data["template"]}]
    made = []
    for number, row in enumerate(data.get("messages") or ()):
        prompt = row.get("prompt") if isinstance(row, dict) else None
        template = prompt.get("template") if isinstance(prompt, dict) else None
        if not isinstance(template, str):
            raise ValueError(f"messages[{number}].prompt.template is no text")
        kind = str(row.get("role") or row.get("_type") or ("system" if number == 0 else "user"))
        made.append({"role": _role(kind), "content": template})
    if not made:
        raise ValueError("neither 'template' nor 'messages'")
    return made


def _role(kind: str) -> str:
    known = {"human": "user", "ai": "assistant"}
    first = re.split(r"[^a-z]", kind.lower())[0]
    return known.get(first, first if first in ROLES else "user")


def _promptfoo(path: Path, prompts: Any) -> Kept:
    """The first prompt of a promptfoo configuration: a text, a chat as JSON, or a file."""
    first = prompts[0] if isinstance(prompts, list) else prompts
    if isinstance(first, dict):
        first = first.get("raw") or first.get("file") or first.get("id") or ""
    first = str(first)
    if first.startswith("file://"):
        return read(path.parent / first.removeprefix("file://"))
    if first.lstrip().startswith("["):
        return _of_data(json.loads(first))
    return _filled([{"role": "user", "content": first}], _placeholders(_DOUBLE))


def _placeholders(*patterns: re.Pattern[str]) -> Callable[[str], Fill]:
    def with_value(value: str) -> Fill:
        def fill(text: str) -> str:
            for pattern in patterns:
                text = pattern.sub(lambda _: value, text)
            return text

        return fill

    return with_value


def _rendered(value: str) -> Fill:
    """A template of Jinja, with one value for every variable and whatever it looks for in one."""

    class Anything(jinja2.Undefined):
        def __str__(self) -> str:
            return value

        def __iter__(self) -> Iterator[str]:
            return iter((str(self),))

        def __bool__(self) -> bool:
            return bool(str(self))

        def __getattr__(self, name: str) -> Any:
            return type(self)(name=name)

    environment = ImmutableSandboxedEnvironment(undefined=Anything)
    return lambda text: environment.from_string(text).render()


def _filled(
    messages: Sequence[Message], with_value: Callable[[str], Fill], tools: Tools = ()
) -> Kept:
    """Both chats. Where nothing is filled in, the last message is what one user asked; behind
    instructions alone somebody asks something."""
    first, second = ([_with(m, with_value(v)) for m in messages] for v in VALUES)
    if first == second:
        asked = list(messages)
        if asked and asked[-1].get("role") == "user":
            asked.pop()
        first, second = ([*asked, {"role": "user", "content": q}] for q in FILLERS)
    elif first[-1].get("role") != "user":
        first, second = (
            [*chat, {"role": "user", "content": q}]
            for chat, q in zip((first, second), FILLERS, strict=True)
        )
    return Kept((first, second), tools)


def _with(message: Message, fill: Fill) -> Message:
    content = message.get("content")
    return {**message, "content": fill(content)} if isinstance(content, str) else message
