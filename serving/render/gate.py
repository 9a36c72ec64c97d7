"""The container beside an engine that compiles static prefixes into its cache: its pod is ready
when all of them were found there (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.serving.render.kit import Kit, secret
from aot.serving.topology.container import PORT as ENGINE_PORT
from aot.serving.topology.container import Contained

PORT = 8100
FOLDER = "/compiled"
USER = 10001
"""Of the toolkit's image (Dockerfile)."""
LARGEST = 1_000_000
"""Bytes of a ConfigMap (Kubernetes takes 1 MiB with all that is around them)."""
KEY = "AOT_API_KEY"
LOCKED: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": USER,
}


@dataclass(frozen=True, slots=True)
class Warmed:
    """The compiled prompts by file name; empty: a ConfigMap NAME-compiled that is made apart has
    one, compiled.json. `image`: of the toolkit."""

    image: str
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        return [f"{FOLDER}/{name}" for name in self.texts or ("compiled.json",)]


def arguments(engine_url: str, has_key: bool) -> list[str]:
    """Of `aot`, as an entrypoint."""
    key = ["--api-key-env", KEY] if has_key else []
    listen = ["--gate", f"0.0.0.0:{PORT}"]
    return ["warm", FOLDER, "--url", engine_url, *listen, *key]


def container(kit: Kit, contained: Contained, warmed: Warmed) -> dict[str, Any]:
    source = contained.secrets.get(contained.packaging.key_variable)
    ready = {"httpGet": {"path": "/ready", "port": PORT}, "periodSeconds": 5}
    alive = {"httpGet": {"path": "/live", "port": PORT}, "periodSeconds": 20}
    return {
        "name": "gate",
        "image": warmed.image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments(f"http://127.0.0.1:{ENGINE_PORT}", source is not None),
        "env": [secret(kit.name, KEY, source)] if source else [],
        "ports": [{"name": "gate", "containerPort": PORT}],
        "resources": {
            "requests": {"cpu": "100m", "memory": "512Mi"},
            "limits": {"memory": "1Gi"},
        },
        "volumeMounts": [
            {"name": "compiled", "mountPath": FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "securityContext": LOCKED,
        "readinessProbe": {**ready, "failureThreshold": 1},
        "livenessProbe": {**alive, "timeoutSeconds": 5, "failureThreshold": 6},
    }


def config_map(kit: Kit, warmed: Warmed) -> dict[str, Any]:
    """An edit of it reaches the pods within a minute or two, and is compiled in there."""
    size = sum(len(text.encode()) for text in warmed.texts.values())
    if size > LARGEST:
        raise UsageError(
            f"--warm: {size:,} bytes do not fit into a ConfigMap ({LARGEST:,}); render fewer or "
            "shorter prompts into it"
        )
    made = kit.manifest("v1", "ConfigMap", None, "-compiled")
    return {**made, "data": dict(warmed.texts)}
