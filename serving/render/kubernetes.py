"""`aot render --target k8s`: a server file as Kubernetes manifests (pure).

Keys are references to Secrets that are made apart (the command stands at the top of the file). The
engines are reached by pods and namespaces with the label of clients, by the router, or by llm-d's
endpoint picker; /metrics, which asks for no key, also by the namespace of the monitoring.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from aot.configs.schema.server import ServerConfig
from aot.serving.render import gate, scaling, stored
from aot.serving.render.kit import Kit, clients, literal
from aot.serving.render.kubernetes_router import router
from aot.serving.render.pod import RESTRICTED, deployment, rights
from aot.serving.render.stored import Store
from aot.serving.topology.container import PORT, Contained

PICKERS = ("llm-d-router-standalone", "llm-d-router-gateway")
"""Labels of llm-d's endpoint pickers (config/charts/routerlib of its router)."""


def render(
    name: str,
    server: ServerConfig,
    contained: Contained,
    texts: Mapping[PurePosixPath, str],
    warmed: gate.Warmed | None = None,
    store: Store | None = None,
) -> list[dict[str, Any]]:
    """All manifests, in an order in which they can be applied. `texts`: what is in the files that
    the container needs. `warmed`: what its pods compile in before they are ready. `store`: the one
    that its engines share."""
    kit = Kit(name, server.container.namespace)
    front = server.front
    beside = gate.container(kit, contained, warmed) if warmed else None
    manifests = [_volume(kit, server), *_files(kit, texts)]
    if warmed and warmed.texts:
        manifests.append(gate.config_map(kit, warmed))
    if store:
        manifests += stored.manifests(kit, server, store, rights(server, contained), RESTRICTED)
    there = contained.store
    first = stored.waiting(contained.image, there, RESTRICTED) if there else None
    manifests += [deployment(kit, server, contained, beside, first), _service(kit)]
    manifests.append(_budget(kit))
    manifests.append(_policy(kit, server, behind_router=front is not None))
    if server.container.max_replicas:
        manifests.append(scaling.autoscaler(kit, server, contained))
    if front:
        manifests += router(kit, server, contained)
    made: list[dict[str, Any]] = literal(manifests)
    return made


def _volume(kit: Kit, server: ServerConfig) -> dict[str, Any]:
    container = server.container
    spec: dict[str, Any] = {
        "accessModes": [container.volume_access],
        "resources": {"requests": {"storage": f"{container.model_cache_gib}Gi"}},
    }
    if container.storage_class:
        spec["storageClassName"] = container.storage_class
    return kit.manifest("v1", "PersistentVolumeClaim", spec, "-models")


def _files(kit: Kit, texts: Mapping[PurePosixPath, str]) -> list[dict[str, Any]]:
    if not texts:
        return []
    data = {path.name: text for path, text in texts.items()}
    return [{**kit.manifest("v1", "ConfigMap", None, "-files"), "data": data}]


def _service(kit: Kit) -> dict[str, Any]:
    port = {"name": "http", "port": PORT, "targetPort": "http"}
    return kit.manifest("v1", "Service", {"selector": kit.labels, "ports": [port]})


def _budget(kit: Kit) -> dict[str, Any]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": kit.labels}}
    return kit.manifest("policy/v1", "PodDisruptionBudget", spec)


def _policy(kit: Kit, server: ServerConfig, *, behind_router: bool) -> dict[str, Any]:
    own = {**kit.labels, "app.kubernetes.io/component": "router"}
    asking = [{"podSelector": {"matchLabels": own}}] if behind_router else clients()
    asking += [
        {"podSelector": {"matchExpressions": [{"key": label, "operator": "Exists"}]}}
        for label in PICKERS
    ]
    ports: list[dict[str, Any]] = [{"protocol": "TCP", "port": "http"}]
    if server.kv_events and server.kv_events.startswith("tcp://"):
        ports.append({"protocol": "TCP", "port": int(server.kv_events.rpartition(":")[2])})
    watching = {"kubernetes.io/metadata.name": server.container.monitoring_namespace}
    spec: dict[str, Any] = {
        "podSelector": {"matchLabels": kit.labels},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": asking, "ports": ports},
            {
                "from": [{"namespaceSelector": {"matchLabels": watching}}],
                "ports": [{"protocol": "TCP", "port": port} for port in (PORT, gate.PORT)],
            },
        ],
    }
    return kit.manifest("networking.k8s.io/v1", "NetworkPolicy", spec)
