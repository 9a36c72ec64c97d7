"""The KV store of a server file as a container of its own: filled once, and read by all engines
(pure).

It runs from the engine's image: vLLM's official ones have LMCache in them. What is in it depends on
more than its keys say (the model's name, and tokens), so its name has a fingerprint of all that
decides the values: a store of other values is another store.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from aot.configs.schema.beside import StoreConfig
from aot.configs.schema.server import ServerConfig
from aot.serving.render.kit import Kit, labels, reviewed
from aot.serving.topology import stores
from aot.serving.topology.container import EVERYWHERE
from aot.serving.topology.stores import PORT

DISK = PurePosixPath("/kv")
VALUES = "aot.store"
"""The label with the fingerprint."""
PROGRAM_GIB = 4
"""Memory of the store's own process, beyond the chunks that it keeps."""
STARTS_S = 300
CHECKS = ("CKV_K8S_11", "CKV_K8S_15", "CKV_K8S_22", "CKV_K8S_40", "CKV_K8S_43")
WAIT = (
    "import socket, time\n"
    "while True:\n"
    "    try: socket.create_connection(({host!r}, {port}), 3); break\n"
    "    except OSError as e: print('the store does not answer:', e, flush=True); time.sleep(2)\n"
)
"""An engine that is started before its store hangs for minutes."""


@dataclass(frozen=True, slots=True)
class Store:
    """`values`: the fingerprint of what is computed into it. `folder`: its disk on this machine;
    in a cluster a volume takes its place."""

    config: StoreConfig
    image: str
    values: str
    folder: Path | None = None

    @property
    def command(self) -> list[str]:
        program = stores.STORES[self.config.kind]
        place = stores.Place(PORT, stores.HTTP_PORT, EVERYWHERE)
        disk = DISK / self.values if self.config.disk else None
        return ["python3", *program.arguments(self.config, place, disk)]

    def called(self, name: str) -> str:
        """Its own name in a cluster, beside the server called `name`."""
        return f"{name}-kv-{self.values}"


def fingerprint(image: str, model: str, settings: Mapping[str, str], chunk_tokens: int) -> str:
    """Of what decides the values under its keys. `settings`: arguments of the engine."""
    facts = json.dumps([image, model, dict(settings), chunk_tokens], sort_keys=True)
    return f"v{hashlib.sha256(facts.encode()).hexdigest()[:6]}"  # a name may not look like 66e4


def waiting(image: str, address: str, rights: dict[str, Any]) -> dict[str, Any]:
    """The container that lets an engine start when its store answers at `address`."""
    host, _, port = address.rpartition(":")
    return {
        "name": "store-answers",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", WAIT.format(host=host, port=port)],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": rights,
    }


def manifests(
    kit: Kit, server: ServerConfig, store: Store, user: dict[str, Any], rights: dict[str, Any]
) -> list[dict[str, Any]]:
    """Volume, Deployment, Service, and who may reach it: the engines. `user` and `rights`: of the
    pod, and of its container, as the engine's."""
    own = {**labels(kit.name, "store"), VALUES: store.values}
    name = store.called(kit.name)
    meta = {"name": name, "namespace": kit.namespace, "labels": own}
    made: list[dict[str, Any]] = []
    if store.config.disk:
        made.append({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta,
                     "spec": _disk(server)})  # fmt: skip
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": own},
        "strategy": {"type": "Recreate"},
        "template": {
            "metadata": {"labels": own},
            "spec": _pod(server, store, name, user, rights),
        },
    }
    ports = [{"name": "kv", "port": PORT, "targetPort": "kv"}]
    reaching = [{"podSelector": {"matchLabels": kit.labels}}]
    policy = {
        "podSelector": {"matchLabels": own},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": reaching, "ports": [{"protocol": "TCP", "port": "kv"}]}],
    }
    noted = {**meta, "annotations": reviewed(*_checks(user))}
    return [
        *made,
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": noted, "spec": spec},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta,
         "spec": {"selector": own, "ports": ports}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta,
         "spec": policy},
    ]  # fmt: skip


def _checks(user: dict[str, Any]) -> tuple[str, ...]:
    return CHECKS if "runAsNonRoot" in user else (*CHECKS, "CKV_K8S_23")


def _disk(server: ServerConfig) -> dict[str, Any]:
    box = server.container
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{box.store_disk_gib}Gi"}},
    }
    return {**spec, "storageClassName": box.storage_class} if box.storage_class else spec


def _pod(
    server: ServerConfig, store: Store, name: str, user: dict[str, Any], rights: dict[str, Any]
) -> dict[str, Any]:
    memory = f"{math.ceil(store.config.memory_gib + PROGRAM_GIB)}Gi"
    answers = {"tcpSocket": {"port": "kv"}, "periodSeconds": 5}
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}]
    if store.config.disk:
        volumes.append({"name": "disk", "persistentVolumeClaim": {"claimName": name}})
        mounts.append({"name": "disk", "mountPath": str(DISK)})
    container = {
        "name": "store",
        "image": store.image,
        "imagePullPolicy": "IfNotPresent",
        "command": store.command,
        "env": [{"name": n, "value": v} for n, v in {"HOME": "/tmp", **stores.QUIET}.items()],
        "ports": [{"name": "kv", "containerPort": PORT}],
        "resources": {"requests": {"cpu": "1", "memory": memory}, "limits": {"memory": memory}},
        "volumeMounts": mounts,
        "securityContext": rights,
        "startupProbe": {**answers, "failureThreshold": STARTS_S // 5},
        "readinessProbe": {**answers, "failureThreshold": 2},
        "livenessProbe": {**answers, "failureThreshold": 6},
    }  # fmt: skip
    pod: dict[str, Any] = {
        "containers": [container],
        "volumes": volumes,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": user,
    }
    if server.container.pull_secrets:
        pod["imagePullSecrets"] = [{"name": secret} for secret in server.container.pull_secrets]
    return pod
