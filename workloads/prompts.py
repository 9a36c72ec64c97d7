"""A prompt folder: static text, examples, a template for the dynamic part, and inputs to fill it.

system_prompt.txt                 static; may name {{ tenant }}
few_shot_examples.txt             static, appended to the system prompt (optional)
dynamic_templates/NAME.jinja2     the user message
dynamic_inputs/NAME.txt           one input a line
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jinja2

from configs.errors import UsageError

# Undefined names are errors: an empty place in a prompt would quietly change every length.
JINJA = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=False)


@dataclass(frozen=True, slots=True)
class PromptFolder:
    """The texts of one prompt folder, not yet rendered."""

    folder: Path
    static: tuple[Path, ...]
    template: Path
    inputs: tuple[str, ...]

    def system(self, tenant: str) -> str:
        """The static part as `tenant` has it."""
        return "\n".join(_render(path, {"tenant": tenant}) for path in self.static)

    def user(self, values: dict[str, str]) -> str:
        """The dynamic part with `values` filled in."""
        return _render(self.template, values)


def read(folder: Path, template: str) -> PromptFolder:
    """The folder with dynamic template `template`. Raises UsageError naming what is missing."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such prompt folder")
    static = [folder / "system_prompt.txt"]
    _text(static[0])
    if (folder / "few_shot_examples.txt").exists():
        static.append(folder / "few_shot_examples.txt")
    inputs = _text(folder / "dynamic_inputs" / f"{template}.txt").splitlines()
    inputs = [line for line in inputs if line.strip()]
    if len(inputs) < 3:
        raise UsageError(
            f"{folder}/dynamic_inputs/{template}.txt: needs at least 3 inputs, has {len(inputs)} "
            "(two are kept for warming, so that no measured request is in the cache beforehand)"
        )
    path = folder / "dynamic_templates" / f"{template}.jinja2"
    _text(path)
    return PromptFolder(folder, tuple(static), path, tuple(inputs))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file in the prompt folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None


def _render(path: Path, values: dict[str, str]) -> str:
    try:
        return JINJA.from_string(_text(path)).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(f"{path}:{error.lineno}: template syntax: {error.message}") from None
    except jinja2.UndefinedError as error:
        raise UsageError(
            f"{path}: {error.message}; the template may use: {', '.join(sorted(values))}"
        ) from None
