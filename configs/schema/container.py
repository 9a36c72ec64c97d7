"""The shape of a server file's `container`: what a container of it needs beyond its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from aot.configs.schema.strict import ClusterName, HostText, Namespace, StrictModel


class ContainerConfig(StrictModel):
    """For `runtime: docker` and `aot render`."""

    image: str | None = Field(
        None, description="default: the engine's official image, of the version of the recipes"
    )
    shm_gib: int = Field(16, ge=1, description="shared memory, which tensor parallelism needs")
    ipc_host: bool = Field(False, description="docker: share the host's IPC instead of shm_gib")
    model_cache: HostText = Field(
        Path("~/.cache/huggingface"),
        description="folder of the host with downloaded weights; Kubernetes: a volume instead",
    )
    model_cache_gib: int = Field(200, ge=1, description="Kubernetes: size of that volume")
    store_disk_gib: int = Field(
        200, ge=1, description="Kubernetes: size of the volume of a store that has a disk"
    )
    restart: Literal["no", "on-failure", "unless-stopped", "always"] = Field(
        "unless-stopped", description="compose: what happens when it ends; docker runs end with aot"
    )
    hub_token_env: str | None = Field(
        None, description="name of the variable with the hub's token, for gated weights"
    )
    cpu: int = Field(4, ge=1, description="Kubernetes: cores asked for")
    memory_gib: int = Field(
        32,
        ge=1,
        description="Kubernetes: memory of the program itself; shared memory and a host tier of "
        "the cache are asked for on top of it",
    )
    max_replicas: int | None = Field(
        None, ge=1, description="Kubernetes: up to where an autoscaler may go; default: none"
    )
    prometheus_url: str | None = Field(
        None,
        description="Kubernetes: Prometheus as KEDA reaches it, which then scales; without it a "
        "HorizontalPodAutoscaler does, and a metrics adapter must bring its metric",
    )
    namespace: Namespace = Field("default", description="Kubernetes")
    monitoring_namespace: Namespace = Field(
        "monitoring", description="Kubernetes: the one that may read /metrics"
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict, description="Kubernetes: labels of the nodes for the engines"
    )
    tolerations: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Kubernetes: of the engines; default with GPUs: nvidia.com/gpu",
    )
    storage_class: ClusterName | None = Field(
        None, description="Kubernetes: of the volume; default: the cluster's"
    )
    volume_access: Literal["ReadWriteMany", "ReadWriteOnce"] = Field(
        "ReadWriteMany",
        description="Kubernetes: ReadWriteOnce is for one replica, which is then ended before its "
        "successor starts",
    )
    pull_secrets: list[ClusterName] = Field(
        default_factory=list, description="Kubernetes: names of secrets of registries"
    )
    run_as_user: int | None = Field(
        None,
        ge=1,
        description="Kubernetes: user of the engine; default: the one without rights that the "
        "engine's image has, or the image's own where it has none",
    )
    toolkit_image: str | None = Field(
        None,
        description="image of this toolkit, made from its Dockerfile: it warms engines, and has "
        "the routers; default: aot of this version",
    )
    drain_s: int = Field(
        120, ge=0, description="Kubernetes: seconds for requests under way when a pod ends"
    )
