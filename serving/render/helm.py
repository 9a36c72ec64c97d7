"""`aot render --target helm-values --chart production-stack`: values of its chart `vllm-stack`
(pure).

Its routing by `prefixaware` finds a prompt's beginning in 128-character pieces. The chart has no
place for a gate, so that its pods come up cold. It was rendered with these values by Helm, and not
installed.
"""

from __future__ import annotations

from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.server import ServerConfig
from aot.serving.render.kit import secret, secret_key
from aot.serving.render.pod import PROBE_EVERY_S, memory, rights, strategy, tolerations
from aot.serving.topology.container import PORT, Contained

ROUTING = {
    "cache_aware": "prefixaware",
    "prefix_hash": "prefixaware",
    "consistent_hash": "session",
    "round_robin": "roundrobin",
}
"""routerSpec.routingLogic by the policy that a server file names (values.schema.json)."""
SESSION_HEADER = "x-session-id"
OWN_FLAGS = {
    "--max-model-len": 1, "--tensor-parallel-size": 1, "--host": 1, "--port": 1, "--dtype": 1,
    "--enable-prefix-caching": 0, "--no-enable-prefix-caching": 0,
}  # fmt: skip
"""Flags that the chart sets from keys of its own, or must not be told; and their values."""
CHART = "production-stack"
LONGEST = 40
"""Of a name: the chart calls a Service RELEASE-NAME-engine-service."""
GRACE_S = 25
"""Of requests under way: the chart leaves pods the 30 s that Kubernetes has by default."""


def production_stack(name: str, server: ServerConfig, contained: Contained) -> dict[str, Any]:
    """values.yaml of chart vllm-stack. UsageError for an engine that the chart does not serve, and
    for a policy that it has not."""
    if CHART not in contained.packaging.charts:
        raise UsageError(f"{CHART} does not serve {server.engine}; render --chart llm-d for it")
    container = server.container
    repository, tag = _image(contained.image)
    own_keys = ("HF_TOKEN", contained.packaging.key_variable)
    spec: dict[str, Any] = {
        "name": name,
        "repository": repository,
        "tag": tag,
        "modelURL": server.model,
        "replicaCount": server.replicas,
        "requestCPU": container.cpu,
        "requestMemory": memory(server, contained),
        "limitMemory": memory(server, contained),
        "requestGPU": contained.cards,
        "pvcStorage": f"{container.model_cache_gib}Gi",
        "pvcAccessMode": [container.volume_access],
        "shmSize": f"{container.shm_gib}Gi",
        "vllmConfig": _vllm(server, contained),
        "env": [
            # The chart hands them on, and Kubernetes would fill in $(NAME).
            *({"name": k, "value": v.replace("$", "$$")} for k, v in contained.env.items()),
            *(secret(name, k, s) for k, s in contained.secrets.items() if k not in own_keys),
        ],
    }
    if (source := contained.secrets.get("HF_TOKEN")) is not None:
        spec["hf_token"] = _secret(name, source)
    elif "HF_TOKEN" not in contained.env:
        spec["env"].append(secret(name, "HF_TOKEN", "HF_TOKEN", optional=True))
    spec |= _placed(server, contained) | _scaled(server)
    engine: dict[str, Any] = {
        "runtimeClassName": "",
        "imagePullPolicy": "IfNotPresent",
        "strategy": strategy(server),
        **_probes(server, contained),
        "modelSpec": [spec],
    }
    if container.run_as_user:
        engine["securityContext"] = rights(server, contained)
    router: dict[str, Any] = {"routingLogic": _logic(server)}
    if container.pull_secrets:
        router["imagePullSecrets"] = [{"name": name} for name in container.pull_secrets]
    if router["routingLogic"] == "session":
        router["sessionKey"] = SESSION_HEADER
    if (source := contained.secrets.get(contained.packaging.key_variable)) is not None:
        engine["vllmApiKey"], router["vllmApiKey"] = _secret(name, source), _secret(name, source)
    return {"servingEngineSpec": engine, "routerSpec": router}


def _vllm(server: ServerConfig, contained: Contained) -> dict[str, Any]:
    # Without the first key the chart turns the cache off.
    config: dict[str, Any] = {
        "enablePrefixCaching": "--enable-prefix-caching" in contained.command,
        "dtype": server.dtype,
        "tensorParallelSize": server.cards if contained.cards else 1,
        "extraArgs": [word.replace("$", "$$") for word in _rest(contained)],
    }
    if server.context_tokens:
        config["maxModelLen"] = server.context_tokens
    return config


def _rest(contained: Contained) -> list[str]:
    """The engine's arguments behind `vllm serve MODEL` that the chart has no key for, the name in
    the API among them."""
    words, kept = list(contained.command[3:]), []
    while words:
        word = words.pop(0)
        flag, equals, _ = word.partition("=")
        if flag not in OWN_FLAGS:
            kept.append(word)
        elif not equals:
            del words[: OWN_FLAGS[flag]]
    return kept


def _image(image: str) -> tuple[str, str]:
    """Repository and tag, which the chart joins with a colon: a digest is split at its own, and a
    registry's port is no tag."""
    repository, _, tag = image.rpartition(":")
    return (repository, tag) if repository and "/" not in tag else (image, "latest")


def _placed(server: ServerConfig, contained: Contained) -> dict[str, Any]:
    """Where it may run, and what it is pulled with."""
    container = server.container
    made: dict[str, Any] = {}
    if container.node_selector:
        terms = [{"key": k, "operator": "In", "values": [v]} for k, v in
                 container.node_selector.items()]  # fmt: skip
        made["nodeSelectorTerms"] = [{"matchExpressions": terms}]
    if tolerated := tolerations(server, contained):
        made["tolerations"] = tolerated
    if container.storage_class:
        made["storageClass"] = container.storage_class
    if container.pull_secrets:
        made["imagePullSecret"] = container.pull_secrets[0]
    return made


def _scaled(server: ServerConfig) -> dict[str, Any]:
    """By the chart's own trigger: its schema takes an object where its template, and KEDA, want a
    list, so that no other can be given."""
    most = server.container.max_replicas
    if not most:
        return {}
    least = server.replicas
    counts = {"minReplicaCount": least, "maxReplicaCount": max(most, least)}
    return {"keda": {"enabled": True, **counts}}


def _probes(server: ServerConfig, contained: Contained) -> dict[str, Any]:
    """With the file's own time for the start."""
    port = {"httpGet": {"path": contained.alive_path, "port": PORT}}
    every = {**port, "initialDelaySeconds": 5, "periodSeconds": PROBE_EVERY_S, "timeoutSeconds": 5}
    starts = max(1, round(server.startup_timeout_s / PROBE_EVERY_S))
    return {
        "startupProbe": {**every, "failureThreshold": starts},
        "readinessProbe": {**every, "failureThreshold": 3},
        "livenessProbe": {**every, "failureThreshold": 6},
    }


def _logic(server: ServerConfig) -> str:
    policy = server.front.policy if server.front else "cache_aware"
    if policy not in ROUTING:
        raise UsageError(
            f"router.policy: production-stack has no {policy} (it has {', '.join(ROUTING)})"
        )
    return ROUTING[policy]


def _secret(name: str, source: str) -> dict[str, str]:
    return {"secretName": f"{name}-keys", "secretKey": secret_key(source)}
