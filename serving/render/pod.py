"""The engines' Deployment: their pods, probes, volumes and rights (pure)."""

from __future__ import annotations

import math
from typing import Any

from aot.configs.schema.server import ServerConfig
from aot.serving.render.kit import Kit, reviewed, secret
from aot.serving.topology.container import PORT, Contained

VOLUME = "/cache"
"""Weights and what engines compiled: one folder, whoever runs in the container."""
PROBE_EVERY_S = 10
LEAVING_S = 15
"""Until routers and Services have taken in that a pod ends: only then is its engine told."""
WARM_S = 600
"""In which the static prefixes are expected to be in the cache."""
GPU = "nvidia.com/gpu"
RESTRICTED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
}
"""With a user without rights and the runtime's seccomp profile: Pod Security "restricted"."""


def deployment(
    kit: Kit,
    server: ServerConfig,
    contained: Contained,
    gate: dict[str, Any] | None,
    first: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """`gate`: the container that says whether the engine beside it is warm. `first`: one that ends
    before the engine starts."""
    container = server.container
    spec: dict[str, Any] = {
        "selector": {"matchLabels": kit.labels},
        "strategy": strategy(server),
        "progressDeadlineSeconds": int(server.startup_timeout_s + (WARM_S if gate else 0)) + 300,
        "template": {
            "metadata": {"labels": kit.labels},
            "spec": _pod(kit, server, contained, gate),
        },
    }
    if first:
        spec["template"]["spec"]["initContainers"] = [first]
    if not container.max_replicas:  # else the autoscaler's number would be undone by each apply
        spec = {"replicas": server.replicas, **spec}
    made = kit.manifest("apps/v1", "Deployment", spec)
    checks = ["CKV_K8S_11", "CKV_K8S_15", "CKV_K8S_22", "CKV_K8S_35", "CKV_K8S_40", "CKV_K8S_43"]
    if "runAsNonRoot" not in rights(server, contained):
        checks.append("CKV_K8S_23")
    made["metadata"]["annotations"] = reviewed(*checks)
    return made


def strategy(server: ServerConfig) -> dict[str, Any]:
    """One of several goes first: its card is needed. A single one stays until its successor is
    ready, which needs another card; a volume for one node does not allow that."""
    several = server.replicas > 1
    if not several and server.container.volume_access == "ReadWriteOnce":
        return {"type": "Recreate"}
    surge, gone = (0, 1) if several else (1, 0)
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": gone}}


def _pod(
    kit: Kit, server: ServerConfig, contained: Contained, gate: dict[str, Any] | None
) -> dict[str, Any]:
    container = server.container
    pod: dict[str, Any] = {
        "containers": [_engine(kit, server, contained), *([gate] if gate else [])],
        "volumes": _volumes(kit, server, contained, gate is not None),
        "terminationGracePeriodSeconds": LEAVING_S + container.drain_s + 30,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service called vllm would set VLLM_PORT
        "securityContext": rights(server, contained),
    }
    if container.node_selector:
        pod["nodeSelector"] = container.node_selector
    if tolerated := tolerations(server, contained):
        pod["tolerations"] = tolerated
    if container.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in container.pull_secrets]
    if server.replicas > 1 or container.max_replicas:
        spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname"}
        spread |= {"whenUnsatisfiable": "ScheduleAnyway"}
        pod["topologySpreadConstraints"] = [
            {**spread, "labelSelector": {"matchLabels": kit.labels}}
        ]
    return pod


def tolerations(server: ServerConfig, contained: Contained) -> list[dict[str, Any]]:
    """The file's own, else that of nodes with cards."""
    of_cards = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]
    return server.container.tolerations or (of_cards if contained.cards else [])


def rights(server: ServerConfig, contained: Contained) -> dict[str, Any]:
    """The pod's securityContext."""
    user = server.container.run_as_user
    if user is None and server.container.image is None and contained.cards:
        user = contained.packaging.user
    made: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    if user:
        made |= {"runAsNonRoot": True, "runAsUser": user, "fsGroup": user}
        made["fsGroupChangePolicy"] = "OnRootMismatch"
    return made


def _volumes(
    kit: Kit, server: ServerConfig, contained: Contained, warmed: bool
) -> list[dict[str, Any]]:
    size = f"{server.container.shm_gib}Gi"
    volumes: list[dict[str, Any]] = [
        {"name": "cache", "persistentVolumeClaim": {"claimName": f"{kit.name}-models"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}},
    ]
    if contained.files:
        volumes.append({"name": "files", "configMap": {"name": f"{kit.name}-files"}})
    if warmed:
        volumes.append({"name": "compiled", "configMap": {"name": f"{kit.name}-compiled"}})
        volumes.append({"name": "tmp", "emptyDir": {}})
    return volumes


def _engine(kit: Kit, server: ServerConfig, contained: Contained) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"name": "cache", "mountPath": VOLUME},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    if contained.files:
        parent = next(iter(contained.files)).parent
        mounts.append({"name": "files", "mountPath": str(parent), "readOnly": True})
    return {
        "name": "engine",
        "image": contained.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [contained.command[0]],
        "args": list(contained.command[1:]),
        "env": environment(kit, contained),
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": _resources(server, contained),
        "volumeMounts": mounts,
        "securityContext": RESTRICTED,
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVING_S)]}}},
        **_probes(server, contained),
    }


def environment(kit: Kit, contained: Contained) -> list[dict[str, Any]]:
    """Settings, folders on the volume, and keys by reference. A hub's token is taken where the
    Secret has one: gated weights need it, others do without."""
    folders = {"HF_HOME": "huggingface", "TRITON_CACHE_DIR": "triton", "XDG_CACHE_HOME": "xdg"}
    folders |= {"TORCHINDUCTOR_CACHE_DIR": "inductor", **contained.packaging.caches}
    values = {**{k: f"{VOLUME}/{v}" for k, v in folders.items()}, **contained.env}
    keys = {"HF_TOKEN": "HF_TOKEN", **contained.secrets}
    optional = {"HF_TOKEN"} - contained.secrets.keys() - contained.env.keys()
    return [
        *({"name": key, "value": value} for key, value in values.items()),
        *(
            secret(kit.name, key, source, optional=key in optional)
            for key, source in keys.items()
            if key not in contained.env
        ),
    ]


def memory(server: ServerConfig, contained: Contained) -> str:
    """Asked for and allowed: shared memory and a host tier count as the container's own. UsageError
    where the tier's size is not known beforehand."""
    container = server.container
    tier = contained.packaging.host_tier_gib(server)
    return f"{math.ceil(container.memory_gib + container.shm_gib + tier)}Gi"


def _resources(server: ServerConfig, contained: Contained) -> dict[str, Any]:
    asked: dict[str, Any] = {"cpu": str(server.container.cpu), "memory": memory(server, contained)}
    limits: dict[str, Any] = {"memory": asked["memory"]}
    if contained.cards:
        limits[GPU] = asked[GPU] = str(contained.cards)
    return {"requests": asked, "limits": limits}


def _probes(server: ServerConfig, contained: Contained) -> dict[str, Any]:
    """It has started when it can generate; from then on only whether it is alive is asked: a check
    that generates waits behind the queue, and a busy engine is not a dead one."""
    every = {"periodSeconds": PROBE_EVERY_S}

    def asking(path: str, timeout_s: float) -> dict[str, Any]:
        return {"httpGet": {"path": path, "port": "http"}, "timeoutSeconds": int(timeout_s)}

    started = asking(contained.health_path, contained.health_timeout_s)
    alive = asking(contained.alive_path, 5)
    starts = max(1, round(server.startup_timeout_s / PROBE_EVERY_S))
    return {
        "startupProbe": {**started, **every, "failureThreshold": starts},
        "readinessProbe": {**alive, **every, "failureThreshold": 3},
        "livenessProbe": {**alive, **every, "failureThreshold": 6},
    }
