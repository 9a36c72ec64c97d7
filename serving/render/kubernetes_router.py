"""The router's part of the Kubernetes manifests: it finds the engines by their labels (pure)."""

from __future__ import annotations

from typing import Any

from aot.configs.schema.server import ServerConfig
from aot.serving.render.gate import LOCKED
from aot.serving.render.kit import Kit, clients, labels, reviewed
from aot.serving.topology.container import PORT, ROUTER_METRICS_PORT, Contained, toolkit_image
from aot.serving.topology.routers import ROUTERS, in_container

PROBE_EVERY_S = 5
CHECKS = ("CKV_K8S_11", "CKV_K8S_15", "CKV_K8S_38", "CKV_K8S_43")


def router(kit: Kit, server: ServerConfig, contained: Contained) -> list[dict[str, Any]]:
    """Account, rights to look for pods, Deployment and Service. It sees pods that are ready only,
    and so none whose gate is closed."""
    called, space = f"{kit.name}-router", kit.namespace
    own = labels(kit.name, "router")
    meta = {"name": called, "namespace": space, "labels": own}
    spec = {
        "replicas": 1,  # what it knows of the caches is in its memory
        "selector": {"matchLabels": own},
        "template": {
            "metadata": {"labels": own},
            "spec": _pod(kit, server, contained, called),
        },
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
        {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {**meta, "annotations": reviewed(*CHECKS)}, "spec": spec,
        },
        {
            "apiVersion": "v1", "kind": "Service", "metadata": meta,
            "spec": {"selector": own, "ports": ports},
        },
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta,
            "spec": _policy(server, own),
        },
    ]  # fmt: skip


def _policy(server: ServerConfig, own: dict[str, str]) -> dict[str, Any]:
    watching = {"kubernetes.io/metadata.name": server.container.monitoring_namespace}
    return {
        "podSelector": {"matchLabels": own},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": clients(), "ports": [{"protocol": "TCP", "port": "http"}]},
            {
                "from": [{"namespaceSelector": {"matchLabels": watching}}],
                "ports": [{"protocol": "TCP", "port": "metrics"}],
            },
        ],
    }


def _pod(kit: Kit, server: ServerConfig, contained: Contained, account: str) -> dict[str, Any]:
    front, container = server.front, server.container
    assert front is not None
    selector = [f"{key}={value}" for key, value in kit.labels.items()]
    flags = ["--service-discovery", "--selector", *selector, "--service-discovery-port", str(PORT)]
    flags += ["--service-discovery-namespace", kit.namespace]
    chosen = ROUTERS[front.name]
    pod: dict[str, Any] = {
        "serviceAccountName": account,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": container.drain_s + 30,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "router",
                "image": toolkit_image(server),
                "imagePullPolicy": "IfNotPresent",
                "command": in_container(chosen, front, flags, contained.router_place),
                "ports": [
                    {"name": "http", "containerPort": PORT},
                    {"name": "metrics", "containerPort": ROUTER_METRICS_PORT},
                ],
                **_probes(chosen.health_path, chosen.live_path),
                "resources": {
                    "requests": {"cpu": "1", "memory": "1Gi"},
                    "limits": {"memory": "4Gi"},
                },
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                "securityContext": LOCKED,
                "lifecycle": {"preStop": {"exec": {"command": ["sleep", "15"]}}},
            }
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if container.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in container.pull_secrets]
    return pod


def _probes(ready_path: str, live_path: str) -> dict[str, Any]:
    """It is ready with its first engine, however long that takes to start; that it waits for one is
    no reason to restart it."""

    def asking(path: str, failures: int) -> dict[str, Any]:
        get = {"httpGet": {"path": path, "port": "http"}, "periodSeconds": PROBE_EVERY_S}
        return {**get, "timeoutSeconds": 5, "failureThreshold": failures}

    return {
        "startupProbe": asking(live_path, 60),
        "readinessProbe": asking(ready_path, 2),
        "livenessProbe": asking(live_path, 6),
    }
