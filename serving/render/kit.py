"""What all manifests of one server have in common: names, labels, references to keys (pure)."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from aot.serving.engines.table import ENGINES

LONGEST = 51
"""Of a name: with the longest of our endings (-kv-v012345) it must be one of a Service."""


TAKEN = {"kubernetes"}
"""Services that a cluster has already."""
LOST = re.compile(r"[^\x00-\x7f]")
"""What no name may have: without it two names may be one."""
CLIENT = {"aot.client": "true"}
"""The label of pods, or of namespaces, that may ask."""
REVIEWED = {
    "CKV_K8S_11": "a CPU limit would throttle what feeds the cards and add to every first token",
    "CKV_K8S_15": "images are named by version; IfNotPresent starts where the registry is away",
    "CKV_K8S_22": "engines write beside their cache folder",
    "CKV_K8S_23": "the image of this engine has no user without rights (container.run_as_user)",
    "CKV_K8S_35": "engines read keys from variables only",
    "CKV_K8S_38": "it looks for the pods of its engines",
    "CKV_K8S_40": "the user of this image has that number",
    "CKV_K8S_43": "the version of the recipe is named; container.image takes a digest",
}
"""What checkov asks for and is not done, and why: the one place where that is explained."""


def clients() -> list[dict[str, Any]]:
    """Who may ask, in a NetworkPolicy: pods of the namespace, and all of other namespaces, that
    have the label."""
    return [
        {"podSelector": {"matchLabels": CLIENT}},
        {"namespaceSelector": {"matchLabels": CLIENT}},
    ]


def reviewed(*checks: str) -> dict[str, str]:
    """Annotations by which these checks are skipped."""
    return {f"checkov.io/skip{n}": f"{c}={REVIEWED[c]}" for n, c in enumerate(checks, 1)}


class Kit:
    """`labels`: of the engines."""

    def __init__(self, name: str, namespace: str) -> None:
        self.name, self.namespace = name, namespace
        self.labels = labels(name, "engine")

    def manifest(self, version: str, kind: str, spec: Any, suffix: str = "") -> dict[str, Any]:
        made = {"apiVersion": version, "kind": kind, "metadata": self.meta(suffix), "spec": spec}
        return {key: value for key, value in made.items() if value is not None}

    def meta(self, suffix: str = "") -> dict[str, Any]:
        return {"name": self.name + suffix, "namespace": self.namespace, "labels": self.labels}


def labels(name: str, component: str) -> dict[str, str]:
    """By which the pods of a component are found."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/component": component}


def literal(value: Any) -> Any:
    """`value`, manifests or a part of them, with commands, arguments and variables as they are:
    Kubernetes itself would fill in $(NAME) there, and make $$ into $."""
    if isinstance(value, list):
        return [literal(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "image" not in value:
        return {key: literal(item) for key, item in value.items()}
    made = dict(value)
    for key in ("command", "args"):
        if key in made:
            made[key] = [word.replace("$", "$$") for word in made[key]]
    made["env"] = [
        {**one, "value": one["value"].replace("$", "$$")} if "value" in one else one
        for one in made.get("env", ())
    ]
    return made


def cluster_name(stem: str, longest: int = LONGEST) -> str:
    """A name that Services may have: it begins with a letter, is short enough for our endings, and
    is not an engine's own, whose variables (VLLM_PORT) a Service would set in other pods."""
    name = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    if not name or not name[0].isalpha() or name in {*ENGINES, *TAKEN}:
        name = f"aot-{name}".rstrip("-")
    if len(name) > longest or LOST.search(stem):  # two that would be one stay two
        digest = hashlib.sha256(stem.encode()).hexdigest()[:6]
        name = f"{name[: longest - 7].rstrip('-')}-{digest}"
    return name


def secret(name: str, key: str, source: str, *, optional: bool = False) -> dict[str, Any]:
    """A variable whose value is in the Secret that is called after the server."""
    reference: dict[str, Any] = {"name": f"{name}-keys", "key": secret_key(source)}
    if optional:
        reference["optional"] = True
    return {"name": key, "valueFrom": {"secretKeyRef": reference}}


def secret_key(source: str) -> str:
    """How a variable of ours is called in the Secret."""
    return source.lower().replace("_", "-")
