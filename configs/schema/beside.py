"""The shape of what runs beside an engine: `router` and `store` of a server file, and the recipes
that routers are installed from."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from aot.configs.schema.recipe import EnvironmentRecipe
from aot.configs.schema.strict import Arguments, MountedText, StrictModel

RouterName = Literal["vllm-router", "sglang-router", "smg"]
Policy = Literal[
    "round_robin", "random", "power_of_two", "cache_aware", "consistent_hash", "prefix_hash"
]
OWNERS: frozenset[Policy] = frozenset({"cache_aware", "consistent_hash", "prefix_hash"})
"""Policies under which a static prefix has a replica of its own; under others any may get it."""


class RouterConfig(StrictModel):
    """`router` of a server file: what stands in front of its replicas."""

    name: RouterName = Field(
        "vllm-router", description="which router (aot router list); default: the engine's own"
    )
    policy: Policy = Field("cache_aware", description="how it chooses a replica")
    environment: str | None = Field(
        None, description="recipe under configs/routers/; default: the one called like the router"
    )
    args: Arguments = Field(default_factory=list, description="router arguments, verbatim")

    @property
    def recipe(self) -> str:
        return self.environment or self.name

    @property
    def keeps_owners(self) -> bool:
        """Whether requests with the same static prefix go to the same replica."""
        return self.policy in OWNERS


class RouterRecipe(EnvironmentRecipe):
    """configs/routers/NAME.yaml: how a router's own virtual environment is made."""

    router: RouterName = Field(description="which router interface drives it")


class StoreConfig(StrictModel):
    """Where blocks are kept beyond the engine's own cache: started and ended with the engine, or
    one that runs already (`address`)."""

    kind: Literal["lmcache"] = "lmcache"
    memory_gib: float = Field(1.0, gt=0, description="host memory that it keeps chunks in")
    disk: MountedText | None = Field(
        None,
        description="folder that keeps them when the store ends, relative to this file; made when "
        "it is not there. Default: none, so that they end with the store",
    )
    chunk_tokens: int = Field(
        256, gt=0, description="what is stored in whole multiples; a multiple of the block size"
    )
    address: str | None = Field(
        None,
        pattern=r"^[^:/\s]+:\d+$",
        description="HOST:PORT of a store that runs already; it has its own sizes and chunks",
    )

    @model_validator(mode="after")
    def _one_that_runs_has_its_own_settings(self) -> Self:
        own = {"memory_gib", "disk"} & self.model_fields_set
        if self.address and own:
            raise ValueError(
                f"{', '.join(sorted(own))}: the store at {self.address} runs already, with "
                "settings of its own; leave them out, or leave out address"
            )
        return self
