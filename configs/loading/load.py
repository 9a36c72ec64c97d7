"""Read a YAML file into its schema, or say which file, line and key is wrong and what was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aot.configs.kernel.errors import ConfigError
from aot.configs.loading.kinds import Kind, kind_of, mistaken
from aot.configs.loading.yaml_file import Parsed, parse
from aot.configs.schema.draws import TAGS
from aot.configs.schema.experiment import ExperimentConfig
from aot.configs.schema.remote_server import AnyServer, RemoteConfig
from aot.configs.schema.server import ServerConfig
from aot.configs.schema.workload import SCENARIOS, WorkloadConfig

Model = TypeVar("Model", bound=BaseModel)
KINDS: dict[type[BaseModel], Kind] = {
    ExperimentConfig: "experiment",
    ServerConfig: "server",
    RemoteConfig: "server",
}


def load(path: Path, shape: type[Model]) -> Model:
    """The file at `path` as `shape`.

    Raises ConfigError for a missing file, bad YAML, a file of another kind, an unknown key (with
    the nearest valid one), a missing key or a wrong value; all problems of one file are in one
    message.
    """
    return _fit(path, parse(path), shape)


def load_server(path: Path) -> AnyServer:
    """A server file: to be launched, or (runtime: remote) running already. Raises as `load`."""
    parsed = parse(path)
    remote = isinstance(parsed.data, dict) and parsed.data.get("runtime") == "remote"
    return _fit(path, parsed, RemoteConfig) if remote else _fit(path, parsed, ServerConfig)


def load_workload(path: Path) -> WorkloadConfig:
    """A workload file, in the shape of its scenario. Raises as `load`."""
    if path.suffix not in (".yaml", ".yml") and path.exists():
        raise ConfigError(
            path,
            "is no workload file (.yaml): a log, a trace or a schedule is replayed as it is (by "
            "aot run and aot load), and has no keys that could be set",
        )
    parsed = parse(path)
    name = parsed.data.get("scenario") if isinstance(parsed.data, dict) else None
    if name is None:
        _refuse_other_kinds(path, parsed, "workload")
        raise ConfigError(path, f"key 'scenario' is required: {', '.join(SCENARIOS)}")
    if name not in SCENARIOS:
        guess = did_you_mean(str(name), list(SCENARIOS))
        words = f"'{name}' is none of {', '.join(SCENARIOS)}{guess}"
        raise ConfigError(path, words, line=parsed.line_of(("scenario",)), key="scenario")
    return cast(WorkloadConfig, _fit(path, parsed, SCENARIOS[name]))


def _fit(path: Path, parsed: Parsed, shape: type[Model]) -> Model:
    data = parsed.data
    if not isinstance(data, dict):
        raise ConfigError(path, f"expected keys and values ({_keys(shape)}), got {_kind(data)}")
    if (wanted := KINDS.get(shape)) is not None:
        _refuse_other_kinds(path, parsed, wanted)
    try:
        return shape.model_validate(data)
    except ValidationError as failure:
        # A misspelt key shows up twice, as unknown and as missing: the unknown one says more.
        errors = sorted(failure.errors(), key=lambda e: e["type"] == "missing")
        first, *rest = [(parsed.line_of(e["loc"]), _explain(e, shape, data)) for e in errors]
        others = [f"line {line}: {words}" if line else words for line, words in rest]
        raise ConfigError(path, "; ".join([first[1], *others]), line=first[0]) from None


def _refuse_other_kinds(path: Path, parsed: Parsed, wanted: Kind) -> None:
    kind = kind_of(parsed.data)
    if kind not in (None, wanted):
        raise ConfigError(path, mistaken(kind, wanted, "the key that names it"))


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
    if error["type"] == "path_type":
        return f"key '{key}': expected a path, got {error['input']!r}"
    if error["type"] == "bool_type":
        return f"key '{key}': write true or false, got {error['input']!r}"
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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest of `known` as the end of a message; empty where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f", did you mean '{near[0]}'?" if near else ""


def _keys(shape: type[BaseModel]) -> str:
    return ", ".join(shape.model_fields)


def _kind(data: object) -> str:
    return "an empty file" if data is None else f"a {type(data).__name__}"


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
