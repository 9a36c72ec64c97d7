"""Settings that are changed between measurements: FILE.KEY of the files that an experiment names.

A sweep, a capacity search or a tuning run measures one experiment under several of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.load import did_you_mean
from aot.configs.loading.yaml_file import scalar
from aot.configs.schema.workload import DocQa, WorkloadConfig

Value = bool | int | float | str | list[str]
Changes = dict[str, Value]
"""By full name: experiment.KEY, workload.KEY or server.KEY, with dots for nested keys."""
Model = TypeVar("Model", bound=BaseModel)

FILES = ("experiment", "workload", "server")
SHORT = {
    "static_tokens": "workload.static_tokens",
    "dynamic_tokens": "workload.dynamic_tokens",
    "rate": "workload.arrivals.rate_per_s",
    "tenants": "workload.tenants.count",
    "users": "workload.load.users",
    "block_size": "server.block_tokens",
    "cache_size": "server.cache_tokens",
    "workload": "experiment.workload",
}
"""What people call the settings that are swept most."""


def full_name(name: str, workload: WorkloadConfig | None) -> str:
    """The full name of a setting; `workload` None: of traffic that has none. UsageError for one
    that is neither short nor of a file."""
    if name == "tenants" and isinstance(workload, DocQa):
        return "workload.documents.count"  # there a static prefix is a document
    if name in SHORT:
        return SHORT[name]
    if name.split(".")[0] in FILES and "." in name:
        return name
    raise UsageError(
        f"'{name}' is no setting{did_you_mean(name, SHORT)} (known: {', '.join(SHORT)}; any other "
        "as workload.KEY or server.KEY)"
    )


def value(text: str) -> Value:
    """A value as it would be written in the file."""
    parsed = scalar(text)
    if isinstance(parsed, bool | int | float | str):
        return parsed
    raise UsageError(f"'{text}' is no single value")


def changed(file: str, config: Model, changes: Mapping[str, Value]) -> Model:
    """`config` with the changes that are meant for `file` (a word of FILES).

    Raises UsageError for a key that it has not got, and for a value that does not fit.
    """
    mine = {k.removeprefix(f"{file}."): v for k, v in changes.items() if k.startswith(f"{file}.")}
    if not mine:
        return config
    data = config.model_dump(exclude_unset=True)  # not as JSON, which shows no secret
    for name, new in mine.items():
        _set(data, config, name.split("."), new, f"{file}.{name}")
    try:
        return type(config).model_validate(data)
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        words = str(first["msg"]).removeprefix("Value error, ")
        names = ", ".join(f"{file}.{k}={v}" for k, v in mine.items())
        raise UsageError(f"{names}: {where + ': ' if where else ''}{words}") from None


def _set(data: dict[str, Any], config: BaseModel, keys: list[str], new: Value, name: str) -> None:
    key, *rest = keys
    known = list(type(config).model_fields)
    if key not in known:
        guess = did_you_mean(key, known)
        raise UsageError(f"{name}: there is no key '{key}'{guess} (valid: {', '.join(known)})")
    if not rest:
        data[key] = new
        return
    inner = getattr(config, key)
    if not isinstance(inner, BaseModel):
        raise UsageError(f"{name}: '{key}' has no keys of its own here")
    # Defaults are not in the file; what is changed in them needs the rest of them.
    below = data.get(key)
    data[key] = below if isinstance(below, dict) else inner.model_dump()
    _set(data[key], inner, rest, new, name)
