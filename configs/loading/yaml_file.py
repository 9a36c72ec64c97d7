"""YAML text → plain data, with the line of each key.

YAML 1.2: `yes` and `on` are words, and a key that is given twice is an error.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, TaggedScalar
from ruamel.yaml.constructor import BaseConstructor, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from aot.configs.kernel.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a file says. `tree`: the same with the places of keys."""

    data: Any
    tree: Any

    def line_of(self, loc: tuple[int | str, ...]) -> int | None:
        """Line of the deepest key on the path `loc` that the file has."""
        line, node = None, self.tree
        for part in loc:
            if isinstance(node, CommentedMap) and part in node:
                line = node.lc.key(part)[0] + 1
            elif isinstance(node, dict):
                continue  # the tag of a tagged union, which is no key
            elif not (isinstance(node, list) and isinstance(part, int) and part < len(node)):
                break
            node = node[part]
        return line


def parse(path: Path, text: str | None = None, *, as_texts: bool = False) -> Parsed:
    """The YAML file at `path`; `text`: what is in it, where that is known. `as_texts`: every
    scalar as it is written (007 is a text like any other).

    Raises ConfigError, with the line, for a missing or unreadable file, for what is no YAML, and
    for a key that is given twice (with both lines).
    """
    yaml = YAML(typ="rt", pure=True)
    yaml.Constructor = _Texts if as_texts else _Values
    try:
        tree = yaml.load(read_text(path) if text is None else text)
    except _TwiceError as twice:
        raise ConfigError(
            path,
            f"is given twice, here and in line {twice.first}; remove one",
            key=twice.key,
            line=twice.second,
        ) from None
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        words = error.problem if isinstance(error, MarkedYAMLError) else str(error)
        line = mark.line + 1 if mark else None
        raise ConfigError(
            path, f"not valid YAML: {' '.join(str(words).split())}", line=line
        ) from None
    try:
        return Parsed(_plain(tree), tree)
    except _OddError as odd:
        raise ConfigError(path, str(odd), line=odd.line) from None


def scalar(text: str) -> Any:
    """A single value as it would be written in a file; None where it is no YAML."""
    try:
        return _plain(YAML(typ="safe", pure=True).load(text))
    except YAMLError:
        return None


def read_text(path: Path) -> str:
    """The text of a file. ConfigError where it is missing (with the nearest name) or unreadable."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        here = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, here, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(path, f"no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read: {error}") from None


class _OddError(Exception):
    """What YAML has and no file of ours; `line` where it is known."""

    def __init__(self, words: str, line: int | None = None) -> None:
        super().__init__(words)
        self.line = line


class _TwiceError(YAMLError):
    def __init__(self, key: str, first: int, second: int) -> None:
        self.key, self.first, self.second = key, first, second


class _EachKeyOnce:
    def check_mapping_key(
        self, node: Any, key_node: Any, mapping: Any, key: Any, _value: Any
    ) -> bool:
        """Refuses a key that is in the mapping already."""
        if key in mapping:
            first = next(k for k, _ in node.value if k.value == key_node.value)
            lines = (mark.start_mark.line + 1 for mark in (first, key_node))
            raise _TwiceError(str(key), *lines)
        return True


class _Values(_EachKeyOnce, RoundTripConstructor):
    pass


class _Texts(_EachKeyOnce, BaseConstructor):
    pass


def _plain(value: Any) -> Any:
    """Without what only matters for writing the file again."""
    if isinstance(value, dict):
        return {_word(k, value): _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, TaggedScalar):
        raise _OddError(f"a tag (!...) stands before '{value.value}'; there are none in our files")
    if isinstance(value, bool | ScalarBoolean):
        return bool(value)
    kinds = (kind for kind in (str, int, float) if isinstance(value, kind))
    return next((kind(value) for kind in kinds), value)


def _word(key: Any, mapping: dict[Any, Any]) -> str:
    if isinstance(key, str):
        return str(key)
    line = mapping.lc.key(key)[0] + 1 if isinstance(mapping, CommentedMap) else None
    raise _OddError(f"a key must be a word, not {key!r}; put it into quotes", line)
