"""Read a YAML file into its schema, or say which file, line and key is wrong and what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aot.configs.kernel.errors import ConfigError
from aot.configs.schema.draws import TAGS
from aot.configs.schema.remote_server import AnyServer, RemoteConfig
from aot.configs.schema.server import ServerConfig
from aot.configs.schema.workload import SCENARIOS, WorkloadConfig

Model = TypeVar("Model", bound=BaseModel)


def load(path: Path, shape: type[Model]) -> Model:
    """The file at `path` as `shape`.

    Raises ConfigError for a missing file, bad YAML, an unknown key (with the nearest valid one),
    a missing key or a wrong value; all problems of one file are in one message.
    """
    tree, data = _parse(path)
    if not isinstance(data, dict):
        raise ConfigError(path, f"expected keys and values ({_keys(shape)}), got {_kind(data)}")
    try:
        return shape.model_validate(data)
    except ValidationError as failure:
        # A misspelt key shows up twice, as unknown and as missing: the unknown one says more.
        errors = sorted(failure.errors(), key=lambda e: e["type"] == "missing")
        first, *rest = [(_line_of(tree, e["loc"]), _explain(e, shape, data)) for e in errors]
        others = [f"line {line}: {words}" if line else words for line, words in rest]
        raise ConfigError(path, "; ".join([first[1], *others]), line=first[0]) from None


def load_server(path: Path) -> AnyServer:
    """A server file: to be launched, or (runtime: remote) running already. Raises as `load`."""
    _, data = _parse(path)
    remote = isinstance(data, dict) and data.get("runtime") == "remote"
    return load(path, RemoteConfig) if remote else load(path, ServerConfig)


def load_workload(path: Path) -> WorkloadConfig:
    """A workload file, in the shape of its scenario. Raises as `load`."""
    tree, data = _parse(path)
    name = data.get("scenario") if isinstance(data, dict) else None
    if name is None:
        raise ConfigError(path, f"key 'scenario' is required: {', '.join(SCENARIOS)}")
    if name not in SCENARIOS:
        guess = did_you_mean(str(name), list(SCENARIOS))
        words = f"'{name}' is none of {', '.join(SCENARIOS)}{guess}"
        raise ConfigError(path, words, line=_line_of(tree, ("scenario",)), key="scenario")
    return cast(WorkloadConfig, load(path, SCENARIOS[name]))


def _parse(path: Path) -> tuple[yaml.Node | None, Any]:
    text = _read(path)
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(path, f"not valid YAML: {_one_line(error)}") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        here = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        hint = difflib.get_close_matches(str(path), here, n=1)
        raise ConfigError(
            path, "no such file" + (f"; did you mean {hint[0]}?" if hint else "")
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"cannot be read: {error}") from None


def _explain(error: ErrorDetails, shape: type[BaseModel], data: Any) -> str:
    loc = _keys_on(error["loc"], data)
    key = ".".join(loc) or "the file"
    if error["type"] == "extra_forbidden":
        valid = _valid_keys(shape, error["loc"][:-1])
        return f"unknown key '{key}'{did_you_mean(loc[-1], valid)} (valid: {', '.join(valid)})"
    if error["type"] == "missing":
        return f"key '{key}' is required"
    if error["type"] == "value_error":
        words = str(error["ctx"]["error"])
        return f"key '{key}': {words}" if loc else words
    return f"key '{key}': {_lower_first(error['msg'])}, got {error['input']!r}"


def _keys_on(loc: tuple[int | str, ...], data: Any) -> list[str]:
    """`loc` without the tags that pydantic adds for tagged unions: only what the file says."""
    keys = []
    for part in loc:
        known = isinstance(data, list) or (isinstance(data, dict) and part in data)
        if known or (part == loc[-1] and part not in TAGS):
            keys.append(str(part))
        data = data[part] if known else data
    return keys


def _valid_keys(shape: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Keys allowed at `loc`: walks nested models and tagged unions (whose tag is part of loc)."""
    shapes: list[type[BaseModel]] = [shape]
    for part in loc:
        inner = [
            m
            for s in shapes
            if part in s.model_fields
            for m in _models_in(s.model_fields[str(part)].annotation)
        ]
        tagged = [
            s for s in shapes if any(_is_tag(f.annotation, part) for f in s.model_fields.values())
        ]
        shapes = inner or tagged or shapes
    return sorted({name for s in shapes for name in s.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in get_args(annotation) for m in _models_in(arg)]


def _is_tag(annotation: Any, part: int | str) -> bool:
    return get_args(annotation) == (part,)


def _line_of(tree: yaml.Node | None, loc: tuple[int | str, ...]) -> int | None:
    """Line of the deepest key on the path `loc` that the file has."""
    line, node = None, tree
    for part in loc:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == part:
                line, node = key.start_mark.line + 1, value
                break
    return line


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest of `known` as the end of a message; empty where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean '{near[0]}'?" if near else ""


def _keys(shape: type[BaseModel]) -> str:
    return ", ".join(shape.model_fields)


def _kind(data: object) -> str:
    return "an empty file" if data is None else f"a {type(data).__name__}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
