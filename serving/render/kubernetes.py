"""`aot render --target k8s`: a server file as Kubernetes manifests (pure).

Keys are references to Secrets that are made apart (the command stands at the top of the file). The
engines are reached by pods with the label CLIENT only, or by the router; /metrics, which asks for
no key, also by the namespace `monitoring`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from aot.configs.schema.server import ServerConfig
from aot.serving.render.kubernetes_router import router
from aot.serving.topology.container import CACHE, PORT, Contained

CLIENT = {"aot.client": "true"}
PROBE_EVERY_S = 10
WAITING_PER_REPLICA = "4"
"""Requests that wait before another replica is started: queueing is what more of them mend."""


def render(
    name: str, server: ServerConfig, contained: Contained, texts: Mapping[PurePosixPath, str]
) -> list[dict[str, Any]]:
    """All manifests, in an order in which they can be applied. `texts`: what is in the files that
    the container needs."""
    labels = {"app.kubernetes.io/name": name, "app.kubernetes.io/component": "engine"}
    kit = _Kit(name, server.container.namespace, labels)
    front = server.front
    manifests = [_volume(kit, server), *_files(kit, texts)]
    manifests += [_deployment(kit, server, contained), _service(kit), _budget(kit)]
    manifests.append(_policy(kit, behind_router=front is not None))
    if server.container.max_replicas:
        manifests.append(_autoscaler(kit, server, contained))
    if front:
        manifests += router(name, server, contained, labels)
    return manifests


class _Kit:
    def __init__(self, name: str, namespace: str, labels: dict[str, str]) -> None:
        self.name, self.namespace, self.labels = name, namespace, labels

    def manifest(self, version: str, kind: str, spec: Any, suffix: str = "") -> dict[str, Any]:
        meta = {"name": self.name + suffix, "namespace": self.namespace, "labels": self.labels}
        return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": spec}


def _volume(kit: _Kit, server: ServerConfig) -> dict[str, Any]:
    size = f"{server.container.model_cache_gib}Gi"
    many = server.replicas > 1 or (server.container.max_replicas or 1) > 1
    spec = {
        "accessModes": ["ReadWriteMany" if many else "ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    return kit.manifest("v1", "PersistentVolumeClaim", spec, "-models")


def _files(kit: _Kit, texts: Mapping[PurePosixPath, str]) -> list[dict[str, Any]]:
    if not texts:
        return []
    data = {path.name: text for path, text in texts.items()}
    manifest = kit.manifest("v1", "ConfigMap", None, "-files")
    del manifest["spec"]
    return [{**manifest, "data": data}]


def _deployment(kit: _Kit, server: ServerConfig, contained: Contained) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = [
        {"name": "models", "persistentVolumeClaim": {"claimName": f"{kit.name}-models"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": _gib(server)}},
    ]
    if contained.files:
        volumes.append({"name": "files", "configMap": {"name": f"{kit.name}-files"}})
    pod = {
        "containers": [_container(kit, server, contained)],
        "volumes": volumes,
        "terminationGracePeriodSeconds": 60,
        "automountServiceAccountToken": False,
    }
    spec = {
        "replicas": server.replicas,
        "selector": {"matchLabels": kit.labels},
        # A second replica on the same cards would not fit: the old one goes first.
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1},
        },
        "template": {"metadata": {"labels": kit.labels}, "spec": pod},
    }
    return kit.manifest("apps/v1", "Deployment", spec)


def _container(kit: _Kit, server: ServerConfig, contained: Contained) -> dict[str, Any]:
    container = server.container
    mounts: list[dict[str, Any]] = [
        {"name": "models", "mountPath": str(CACHE)},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    if contained.files:
        parent = next(iter(contained.files)).parent
        mounts.append({"name": "files", "mountPath": str(parent), "readOnly": True})
    asked: dict[str, Any] = {"cpu": str(container.cpu), "memory": f"{container.memory_gib}Gi"}
    limits: dict[str, Any] = {"memory": f"{container.memory_gib}Gi"}
    if contained.cards:
        limits["nvidia.com/gpu"] = asked["nvidia.com/gpu"] = str(contained.cards)
    return {
        "name": "engine",
        "image": contained.image,
        "command": [contained.command[0]],
        # $(NAME) would be filled in by Kubernetes.
        "args": [word.replace("$(", "$$(") for word in contained.command[1:]],
        "env": [
            *({"name": key, "value": value} for key, value in contained.env.items()),
            *(secret(kit.name, key, source) for key, source in contained.secrets.items()),
        ],
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"requests": asked, "limits": limits},
        "volumeMounts": mounts,
        **_probes(server, contained),
    }


def secret(name: str, key: str, source: str) -> dict[str, Any]:
    """A variable whose value is in the Secret that is called after the server."""
    return {
        "name": key,
        "valueFrom": {"secretKeyRef": {"name": f"{name}-keys", "key": secret_key(source)}},
    }


def secret_key(source: str) -> str:
    """How a variable of ours is called in the Secret."""
    return source.lower().replace("_", "-")


def _probes(server: ServerConfig, contained: Contained) -> dict[str, Any]:
    # vLLM's answers at once; SGLang's generates a token, behind the queue.
    probe = {
        "httpGet": {"path": contained.health_path, "port": "http"},
        "periodSeconds": PROBE_EVERY_S,
        "timeoutSeconds": int(contained.health_timeout_s),
    }
    starts = max(1, round(server.startup_timeout_s / PROBE_EVERY_S))
    return {
        "startupProbe": {**probe, "failureThreshold": starts},
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "failureThreshold": 6},
    }


def _gib(server: ServerConfig) -> str:
    return f"{server.container.shm_gib}Gi"


def _service(kit: _Kit) -> dict[str, Any]:
    port = {"name": "http", "port": PORT, "targetPort": "http"}
    return kit.manifest("v1", "Service", {"selector": kit.labels, "ports": [port]})


def _budget(kit: _Kit) -> dict[str, Any]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": kit.labels}}
    return kit.manifest("policy/v1", "PodDisruptionBudget", spec)


def _policy(kit: _Kit, *, behind_router: bool) -> dict[str, Any]:
    own = {**kit.labels, "app.kubernetes.io/component": "router"}
    allowed: list[dict[str, Any]] = [
        {"podSelector": {"matchLabels": own if behind_router else CLIENT}},
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
    ]
    spec = {
        "podSelector": {"matchLabels": kit.labels},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": allowed, "ports": [{"protocol": "TCP", "port": "http"}]}],
    }
    return kit.manifest("networking.k8s.io/v1", "NetworkPolicy", spec)


def _autoscaler(kit: _Kit, server: ServerConfig, contained: Contained) -> dict[str, Any]:
    """By waiting requests, which a metrics adapter must bring under this name; scaling down slowly,
    because a replica that goes takes its cache with it."""
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": kit.name},
        "minReplicas": server.replicas,
        "maxReplicas": max(server.container.max_replicas or 1, server.replicas),
        "metrics": [
            {
                "type": "Pods",
                "pods": {
                    "metric": {"name": contained.packaging.autoscaling_metric},
                    "target": {"type": "AverageValue", "averageValue": WAITING_PER_REPLICA},
                },
            }
        ],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
    }
    return kit.manifest("autoscaling/v2", "HorizontalPodAutoscaler", spec)
