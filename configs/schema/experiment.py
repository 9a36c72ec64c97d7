"""The shape of experiment files (workloads: workload.py, servers: server.py)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from aot.configs.schema.strict import PathText, StrictModel

Arm = Literal["jit", "auto", "aot", "mended", "store", "restarted"]
ARMS: tuple[Arm, ...] = ("jit", "auto", "aot", "mended", "store", "restarted")
USUAL: tuple[Arm, ...] = ("jit", "auto", "aot")
STORED: frozenset[Arm] = frozenset({"store", "restarted"})
"""Arms that go through the server file's KV store: as aot, and after all was ended and started
again, when nothing was warmed but what the store kept."""
MENDED: Arm = "mended"
"""As auto, on the traffic without its flaws (key `mended`)."""
DECIDING_REPEATS = 3
"""From three on repeats themselves say how they differ (analysis/inference/starts.py)."""
CacheReset = Literal["restart", "endpoint", "salts"]


class ExperimentConfig(StrictModel):
    """configs/experiments/NAME.yaml: servers and a workload, measured under each arm."""

    name: str
    server: PathText | None = Field(None, description="server file, relative to this file")
    servers: list[PathText] | None = Field(
        None, min_length=1, description="or several: each is measured under every arm"
    )
    workload: PathText = Field(description="workload file, relative to this file")
    mended: PathText | None = Field(
        None,
        description="the same requests without their flaws, for the arm mended: a log made by "
        "aot lint --fix",
    )
    arms: list[Arm] = Field(list(USUAL), min_length=1)
    repeats: int = Field(
        1,
        ge=1,
        description=f"of every arm; {DECIDING_REPEATS} unless named where several arms or servers "
        "are compared. Fewer cannot tell an arm from a start of its server: then only large "
        "effects are called",
    )
    skip_first: int = Field(
        0,
        ge=0,
        description="requests at the start of the schedule, and at its end, that count "
        "for hit ratios and throughput only: warm-up and cool-down, the same ones in every arm",
    )
    skip_last: int = Field(0, ge=0)
    cache_reset: CacheReset | None = Field(
        None,
        description="empty the cache by a fresh process per arm (default); by the engine's "
        "reset endpoint (vLLM needs dev_mode in the server file); or by a fresh cache salt per "
        "phase. With the last two, auto and aot share a process. Not for remote servers, where "
        "every phase gets a cache salt of its own",
    )

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value):
            raise ValueError("use letters, digits, '.', '_' and '-' only; it names the run folder")
        return value

    @field_validator("arms")
    @classmethod
    def _arms_are_distinct(cls, value: list[Arm]) -> list[Arm]:
        if len(set(value)) != len(value):
            raise ValueError("an arm is listed twice; use repeats to measure it again")
        return value

    @model_validator(mode="before")
    @classmethod
    def _what_compares_repeats(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "repeats" in data:
            return data
        compared = [data.get("arms", USUAL), data.get("servers") or ()]
        if any(isinstance(names, list | tuple) and len(names) > 1 for names in compared):
            return {**data, "repeats": DECIDING_REPEATS}
        return data

    @model_validator(mode="after")
    def _one_way_to_name_servers(self) -> Self:
        if (self.server is None) == (self.servers is None):
            raise ValueError("give either 'server' (one file) or 'servers' (a list of files)")
        stems = [p.stem for p in self.server_files]
        if len(set(stems)) != len(stems):
            raise ValueError(
                f"two server files have the same name ({', '.join(stems)}); the report tells them "
                "apart by it"
            )
        return self

    @model_validator(mode="after")
    def _what_is_mended_is_measured(self) -> Self:
        if (self.mended is None) != (MENDED not in self.arms):
            raise ValueError(
                "the arm mended needs the key 'mended' (a log made by aot lint --fix), and the key "
                "needs the arm"
            )
        return self

    @property
    def server_files(self) -> list[Path]:
        return self.servers or ([self.server] if self.server else [])
