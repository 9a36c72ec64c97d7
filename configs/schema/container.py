"""The shape of a server file's `container`: what a container of it needs beyond its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from aot.configs.schema.strict import PathText, StrictModel


class ContainerConfig(StrictModel):
    """For `runtime: docker` and `aot render`."""

    image: str | None = Field(
        None, description="default: the engine's official image, of the version of the recipes"
    )
    shm_gib: int = Field(16, ge=1, description="shared memory, which tensor parallelism needs")
    ipc_host: bool = Field(False, description="docker: share the host's IPC instead of shm_gib")
    model_cache: PathText = Field(
        Path("~/.cache/huggingface"),
        description="folder of the host with downloaded weights; Kubernetes: a volume instead",
    )
    model_cache_gib: int = Field(200, ge=1, description="Kubernetes: size of that volume")
    restart: Literal["no", "on-failure", "unless-stopped", "always"] = Field(
        "unless-stopped", description="compose: what happens when it ends; docker runs end with aot"
    )
    hub_token_env: str | None = Field(
        None, description="name of the variable with the hub's token, for gated weights"
    )
    cpu: int = Field(4, ge=1, description="Kubernetes: cores asked for")
    memory_gib: int = Field(32, ge=1, description="Kubernetes: memory asked for")
    max_replicas: int | None = Field(
        None, ge=1, description="Kubernetes: up to where an autoscaler may go; default: none"
    )
    namespace: str = Field("default", description="Kubernetes")
