"""The shape of configs/profiles/NAME.yaml, and of a server file's `requests`."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator

from aot.configs.dialects.table import EndpointName
from aot.configs.dialects.wording import HEADER, header
from aot.configs.kernel.errors import UsageError
from aot.configs.schema.strict import StrictModel

NEEDED = frozenset({"model", "messages", "prompt", "input", "text", "stream"})
"""Fields that make a request one; what replaces them is no profile."""


class Differences(StrictModel):
    """What a server wants otherwise than its endpoint is usually asked."""

    path: str | None = Field(
        None, pattern=r"^/\S*$", description="instead of the endpoint's; {model} is the model"
    )
    headers: dict[str, SecretStr] = Field(
        default_factory=dict, description="sent with every request; a value may be $VARIABLE"
    )
    body: dict[str, Any] = Field(default_factory=dict, description="fields put into the body")
    omit: list[str] = Field(default_factory=list, description="fields left out of the body")
    rename: dict[str, str] = Field(default_factory=dict, description="fields: old name: new name")
    key_header: str | None = Field(
        None,
        pattern=HEADER.pattern,
        description="header for the API key, instead of Authorization: Bearer",
    )

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, content in value.items():
            try:
                header(f"{name}: {content.get_secret_value()}", "headers")
            except UsageError as error:
                raise ValueError(str(error)) from None
        return value

    @field_serializer("body", when_used="json")
    def _names_of(self, body: dict[str, Any]) -> dict[str, str]:
        """What is written down of them: gateways take keys in fields."""
        return dict.fromkeys(body, "…")

    @field_serializer("path", when_used="json")
    def _without_query(self, path: str | None) -> str | None:
        return path.partition("?")[0] if path else None

    @model_validator(mode="after")
    def _leaves_a_request(self) -> Differences:
        taken = sorted(NEEDED & {*self.omit, *self.rename, *self.rename.values(), *self.body})
        if taken:
            raise ValueError(f"{', '.join(taken)}: without it, or with another, it is no request")
        return self


class Profile(Differences):
    """configs/profiles/NAME.yaml: what a kind of server wants."""


class RequestsConfig(Differences):
    """`requests` of a server file: how requests to it are worded."""

    endpoint: EndpointName | None = Field(
        None, description="default: the one that the workload names, else chat"
    )
    profile: str | None = Field(
        None, description="a kind of server that wants something else (aot configs list profiles)"
    )
