"""The shape of `store` in a server file: a KV store beside the engine, which outlives it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from aot.configs.schema.strict import PathText, StrictModel


class StoreConfig(StrictModel):
    """Where blocks are kept beyond the engine's own cache: started and ended with the engine, or
    one that runs already (`address`)."""

    kind: Literal["lmcache"] = "lmcache"
    memory_gib: float = Field(1.0, gt=0, description="host memory that it keeps chunks in")
    disk: PathText | None = Field(
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
