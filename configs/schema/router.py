"""The shape of a server file's `router`, and of the recipes that routers are installed from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aot.configs.schema.recipe import EnvironmentRecipe
from aot.configs.schema.strict import Arguments, StrictModel

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
