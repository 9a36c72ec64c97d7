"""The shape of `env` in server files: plain values, secret ones, and references to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr

from aot.configs.kernel.secrecy import is_secret
from aot.configs.schema.strict import StrictModel

HIDDEN = "(hidden)"


class Told(StrictModel):
    """A value with the word of the file's author on whether it is secret."""

    secret: str | None = None
    plain: str | None = None


class FromEnv(StrictModel):
    """A variable whose value stands in one of the environment that aot is started in."""

    from_env: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="name of that variable")


def _as_text(value: object) -> object:
    # `env: {OMP_NUM_THREADS: 4}` is what people write; a variable is text.
    if isinstance(value, dict):
        return {
            k: str(v) if isinstance(v, (int, float)) and not isinstance(v, bool) else v
            for k, v in value.items()
        }
    return value


def _hide(env: dict[str, Any]) -> dict[str, Any]:
    return {name: _kept(name, value) for name, value in env.items()}


def _kept(name: str, value: Any) -> Any:
    if isinstance(value, Told):
        if (value.secret is None) == (value.plain is None):
            raise ValueError(f"{name}: say either 'secret: VALUE' or 'plain: VALUE'")
        return value.plain if value.secret is None else SecretStr(value.secret)
    return SecretStr(value) if isinstance(value, str) and is_secret(name, value) else value


def _shown(env: dict[str, Any]) -> dict[str, Any]:
    dumped = {k: v.model_dump() if isinstance(v, FromEnv) else v for k, v in env.items()}
    return {k: HIDDEN if isinstance(v, SecretStr) else v for k, v in dumped.items()}


Variables = Annotated[
    dict[str, str | FromEnv | Told | SecretStr],
    BeforeValidator(_as_text),
    AfterValidator(_hide),
    PlainSerializer(_shown, when_used="json"),
]
"""Variables of an engine: VALUE, {from_env: NAME}, {secret: VALUE} or {plain: VALUE}. A plain VALUE
that looks like a secret is one; what is secret is a `SecretStr`, or a reference, from here on."""


def plain(env: Mapping[str, Any]) -> dict[str, str]:
    """Those that anybody may read."""
    return {k: v for k, v in env.items() if isinstance(v, str)}


def sources(env: Mapping[str, Any]) -> dict[str, str]:
    """The secret ones, by the variable of ours that holds the value; where the file itself holds
    it, the one of the same name."""
    return {
        k: v.from_env if isinstance(v, FromEnv) else k
        for k, v in env.items()
        if not isinstance(v, str)
    }


def held(env: Mapping[str, Any]) -> dict[str, SecretStr]:
    """The secret ones whose value the file itself holds."""
    return {k: v for k, v in env.items() if isinstance(v, SecretStr)}
