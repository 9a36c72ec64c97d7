"""The shape of `env` in server files: plain values, secret ones, and references to ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr

from aot.configs.kernel.secrecy import is_secret
from aot.configs.schema.strict import StrictModel

HIDDEN = "(hidden)"


class FromEnv(StrictModel):
    """A variable whose value stands in one of the environment that aot is started in."""

    from_env: str = Field(min_length=1, description="name of that variable")


def _as_text(value: object) -> object:
    # `env: {OMP_NUM_THREADS: 4}` is what people write; a variable is text.
    if isinstance(value, dict):
        return {
            k: str(v) if isinstance(v, (int, float)) and not isinstance(v, bool) else v
            for k, v in value.items()
        }
    return value


def _hide(env: dict[str, Any]) -> dict[str, Any]:
    return {
        k: SecretStr(v) if isinstance(v, str) and is_secret(k, v) else v for k, v in env.items()
    }


def _shown(env: dict[str, Any]) -> dict[str, Any]:
    dumped = {k: v.model_dump() if isinstance(v, FromEnv) else v for k, v in env.items()}
    return {k: HIDDEN if isinstance(v, SecretStr) else v for k, v in dumped.items()}


Variables = Annotated[
    dict[str, str | FromEnv | SecretStr],
    BeforeValidator(_as_text),
    AfterValidator(_hide),
    PlainSerializer(_shown),
]
"""Variables of an engine. What looks like a secret is one from here on."""


def plain(env: Mapping[str, str | FromEnv | SecretStr]) -> dict[str, str]:
    """Those that anybody may read."""
    return {k: v for k, v in env.items() if isinstance(v, str)}


def sources(env: Mapping[str, str | FromEnv | SecretStr]) -> dict[str, str]:
    """The secret ones, by the variable of ours that holds the value; where the file itself holds
    it, the one of the same name."""
    return {
        k: v.from_env if isinstance(v, FromEnv) else k
        for k, v in env.items()
        if not isinstance(v, str)
    }


def held(env: Mapping[str, str | FromEnv | SecretStr]) -> dict[str, SecretStr]:
    """The secret ones whose value the file itself holds."""
    return {k: v for k, v in env.items() if isinstance(v, SecretStr)}
