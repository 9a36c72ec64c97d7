"""The shape of server files with `runtime: remote`: what somebody else runs."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.network import base_url
from aot.configs.schema.recipe import EngineName
from aot.configs.schema.server import ServerConfig
from aot.configs.schema.strict import StrictModel
from aot.configs.schema.wording import RequestsConfig


class RemoteConfig(StrictModel):
    """configs/servers/NAME.yaml with 'runtime: remote': a server that somebody else runs."""

    engine: EngineName = Field(description="'openai' for any OpenAI-compatible server")
    runtime: Literal["remote"]
    url: str = Field(description="base URL, with or without /v1")
    model: str | None = Field(None, description="model name in the API; default: the one served")
    tokenizer: str | None = Field(
        None,
        description="model recipe name or folder to count tokens with; default: the server's own "
        "/tokenize, where it has one",
    )
    api_key_env: str | None = Field(
        None, description="name of the environment variable that holds the server's API key"
    )
    tenant_salts: bool = Field(
        False,
        description="send a cache salt of its own with every static prefix (a tenant each), as a "
        "gateway would that keeps tenants apart",
    )

    requests: RequestsConfig = Field(
        default_factory=lambda: RequestsConfig.model_validate({}),
        description="how requests to it are worded, where it wants something else than usual",
    )
    replicas: list[str] = Field(
        default_factory=list,
        description="where url is a router: the base URLs of the engines behind it, which are "
        "proved, warmed and counted one by one",
    )
    keeps_owners: bool = Field(
        False,
        description="the router sends a static prefix to one replica always, which alone is "
        "warmed then, through the router",
    )
    key_header: str | None = Field(
        None, description="header by which the router tells static prefixes apart, if it needs one"
    )

    @model_validator(mode="before")
    @classmethod
    def _what_only_a_start_can_set(cls, data: Any) -> Any:
        foreign = sorted((ServerConfig.model_fields.keys() - cls.model_fields.keys()) & set(data))
        if foreign:
            raise ValueError(
                f"{', '.join(foreign)} cannot be set on a server that runs already; "
                "set it where that server is started"
            )
        return data

    @field_validator("replicas", mode="before")
    @classmethod
    def _replicas_are_urls(cls, value: object) -> object:
        if not isinstance(value, list):
            raise ValueError(
                "on a server that runs already these are the base URLs of the engines behind url, "
                "as a list"
            )
        return value

    @field_validator("url")
    @classmethod
    def _url_is_http(cls, value: str) -> str:
        return _base_url(value, "url")

    @field_validator("replicas")
    @classmethod
    def _replicas_are_http(cls, value: list[str]) -> list[str]:
        return [_base_url(url, "replicas") for url in value]

    @model_validator(mode="after")
    def _routers_have_replicas(self) -> Self:
        if len({self.url, *self.replicas}) <= len(self.replicas):
            raise ValueError(
                "replicas: each engine once, and url is the router's: one that is named twice "
                "would be counted twice"
            )
        for key in ("keeps_owners", "key_header"):
            if getattr(self, key) and not self.replicas:
                raise ValueError(f"{key} says how a router works: give its replicas, too")
        return self


def _base_url(value: str, key: str) -> str:
    try:
        return base_url(value, key)
    except UsageError as error:
        raise ValueError(str(error).removeprefix(f"{key}: ")) from None


AnyServer = ServerConfig | RemoteConfig
