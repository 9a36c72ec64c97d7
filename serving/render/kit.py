"""What all manifests of one server have in common: names, labels, references to keys (pure)."""

from __future__ import annotations

import re
from typing import Any

from aot.serving.engines.table import ENGINES

LONGEST = 52
"""Of a name: with the longest of our endings it must be one of a Service."""


class Kit:
    """`labels`: of the engines."""

    def __init__(self, name: str, namespace: str) -> None:
        self.name, self.namespace = name, namespace
        self.labels = labels(name, "engine")

    def manifest(self, version: str, kind: str, spec: Any, suffix: str = "") -> dict[str, Any]:
        made = {"apiVersion": version, "kind": kind, "metadata": self.meta(suffix), "spec": spec}
        return {key: value for key, value in made.items() if value is not None}

    def meta(self, suffix: str = "", **more: str) -> dict[str, Any]:
        return {
            "name": self.name + suffix,
            "namespace": self.namespace,
            "labels": {**self.labels, **more},
        }


def labels(name: str, component: str) -> dict[str, str]:
    """By which the pods of a component are found."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/component": component}


def cluster_name(stem: str) -> str:
    """A name that Services may have: it begins with a letter, is short enough for our endings, and
    is not an engine's own, whose variables (VLLM_PORT) a Service would set in other pods."""
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    if not name or not name[0].isalpha() or name in ENGINES:
        name = f"aot-{name}".rstrip("-")
    return name[:LONGEST].rstrip("-")


def secret(name: str, key: str, source: str, *, optional: bool = False) -> dict[str, Any]:
    """A variable whose value is in the Secret that is called after the server."""
    reference: dict[str, Any] = {"name": f"{name}-keys", "key": secret_key(source)}
    if optional:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}


def secret_key(source: str) -> str:
    """How a variable of ours is called in the Secret."""
    return source.lower().replace("_", "-")
