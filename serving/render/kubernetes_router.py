"""The router's part of the Kubernetes manifests: it finds the engines by their labels (pure)."""

from __future__ import annotations

from typing import Any

from aot.configs.schema.server import ServerConfig
from aot.serving.topology.container import EVERYWHERE, PORT, Contained
from aot.serving.topology.routers import ROUTERS, Place, in_container

METRICS_PORT = 29000


def router(
    name: str, server: ServerConfig, contained: Contained, engines: dict[str, str]
) -> list[dict[str, Any]]:
    """Account, rights to look for pods, Deployment and Service. `engines`: the engines' labels."""
    front = server.front
    assert front is not None
    space, called = server.container.namespace, f"{name}-router"
    labels = {**engines, "app.kubernetes.io/component": "router"}
    meta = {"name": called, "namespace": space, "labels": labels}
    place = Place(
        EVERYWHERE, PORT, METRICS_PORT, contained.served_name, contained.alive_path, EVERYWHERE
    )
    selector = [f"{key}={value}" for key, value in engines.items()]
    flags = ["--service-discovery", "--selector", *selector, "--service-discovery-port", str(PORT)]
    flags += ["--service-discovery-namespace", space]
    image, command = in_container(ROUTERS[front.name], front, flags, place)
    probe = {
        "httpGet": {"path": ROUTERS[front.name].health_path, "port": "http"},
        "periodSeconds": 5,
    }
    pod = {
        "serviceAccountName": called,
        "containers": [
            {
                "name": "router",
                "image": image,
                "command": command,
                "ports": [
                    {"name": "http", "containerPort": PORT},
                    {"name": "metrics", "containerPort": METRICS_PORT},
                ],
                "readinessProbe": probe,
                "startupProbe": {**probe, "failureThreshold": 60},
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
            }
        ],
    }
    spec = {
        "replicas": 1,  # what it knows of the caches is in its memory
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": called}
    subject = {"kind": "ServiceAccount", "name": called, "namespace": space}
    rbac = "rbac.authorization.k8s.io/v1"
    ports = [{"name": "http", "port": PORT, "targetPort": "http"}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rbac, "kind": "Role", "metadata": meta, "rules": [rule]},
        {
            "apiVersion": rbac, "kind": "RoleBinding", "metadata": meta,
            "roleRef": role, "subjects": [subject],
        },
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec},
        {
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"selector": labels, "ports": ports},
        },
    ]  # fmt: skip
