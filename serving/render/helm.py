"""`aot render --target helm-values`: values for charts that serve with prefix-aware routing (pure).

production-stack (vllm-project, chart `vllm-stack`): routing by `prefixaware` finds a prompt's
beginning in 128-character pieces. llm-d (charts `llm-d-router-standalone` and `-gateway`): an
endpoint picker that remembers which prefixes it sent where; its model servers are manifests, which
`aot render --target k8s` gives. Neither chart has been installed by this project.
"""

from __future__ import annotations

from typing import Any

import yaml

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.server import ServerConfig
from aot.serving.render.kubernetes import secret, secret_key
from aot.serving.topology.container import PORT, Contained

ROUTING = {
    "cache_aware": "prefixaware",
    "prefix_hash": "prefixaware",
    "consistent_hash": "session",
    "round_robin": "roundrobin",
}
"""routerSpec.routingLogic by the policy that a server file names (values.schema.json)."""
SESSION_HEADER = "x-session-id"
OWN_KEYS = (
    "--max-model-len", "--tensor-parallel-size", "--served-model-name", "--host", "--port",
    "--dtype",
    "--enable-prefix-caching", "--no-enable-prefix-caching",
)  # fmt: skip
"""Flags that the chart sets from keys of its own, or must not be told."""
CHART = "production-stack"
PLUGINS_FILE = "aot-plugins.yaml"


def production_stack(name: str, server: ServerConfig, contained: Contained) -> dict[str, Any]:
    """values.yaml of chart vllm-stack. UsageError for an engine that the chart does not serve, and
    for a policy that it has not."""
    if CHART not in contained.packaging.charts:
        raise UsageError(f"{CHART} does not serve {server.engine}; render --chart llm-d for it")
    repository, _, tag = contained.image.rpartition(":")
    own_keys = ("HF_TOKEN", contained.packaging.key_variable)
    spec: dict[str, Any] = {
        "name": name,
        "repository": repository,
        "tag": tag,
        "modelURL": server.model,
        "replicaCount": server.replicas,
        "requestCPU": server.container.cpu,
        "requestMemory": f"{server.container.memory_gib}Gi",
        "requestGPU": contained.cards,
        "pvcStorage": f"{server.container.model_cache_gib}Gi",
        "shmSize": f"{server.container.shm_gib}Gi",
        "vllmConfig": _vllm(server, contained),
        "env": [
            *({"name": k, "value": v} for k, v in contained.env.items()),
            *(secret(name, k, s) for k, s in contained.secrets.items() if k not in own_keys),
        ],
    }
    if (source := contained.secrets.get("HF_TOKEN")) is not None:
        spec["hf_token"] = _secret(name, source)
    engine: dict[str, Any] = {"runtimeClassName": "", "modelSpec": [spec]}
    router: dict[str, Any] = {"routingLogic": _logic(server)}
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
        "tensorParallelSize": max(contained.cards, 1),
        "extraArgs": _rest(contained),
    }
    if server.context_tokens:
        config["maxModelLen"] = server.context_tokens
    return config


def _rest(contained: Contained) -> list[str]:
    """The engine's arguments behind `vllm serve MODEL` that the chart has no key for."""
    words, kept = list(contained.command[3:]), []
    while words:
        word = words.pop(0)
        flag = word.split("=", 1)[0]
        values = []
        while words and not words[0].startswith("--"):
            values.append(words.pop(0))
        if flag not in OWN_KEYS:
            kept += [word, *values]
    return kept


def _logic(server: ServerConfig) -> str:
    policy = server.front.policy if server.front else "cache_aware"
    if policy not in ROUTING:
        raise UsageError(
            f"router.policy: production-stack has no {policy} (it has {', '.join(ROUTING)})"
        )
    return ROUTING[policy]


def _secret(name: str, source: str) -> dict[str, str]:
    return {"secretName": f"{name}-keys", "secretKey": secret_key(source)}


def llm_d(name: str, server: ServerConfig) -> dict[str, Any]:
    """Values of the llm-d router charts for the engines that --target k8s renders."""
    context = server.context_tokens or 131_072
    plugins = {
        "apiVersion": "llm-d.ai/v1alpha1",
        "kind": "EndpointPickerConfig",
        "plugins": [
            {"type": "token-load-scorer"},
            {"type": "inflight-load-producer"},
            {
                "type": "approx-prefix-cache-producer",
                "parameters": {"maxPrefixTokensToMatch": context},
            },
            {"type": "prefix-cache-affinity-filter", "parameters": {"affinityThreshold": 0.8}},
        ],
        "schedulingProfiles": [
            {
                "name": "default",
                "plugins": [
                    {"pluginRef": "prefix-cache-affinity-filter"},
                    {"pluginRef": "token-load-scorer"},
                ],
            }
        ],
    }
    return {
        "router": {
            "epp": {
                "pluginsConfigFile": PLUGINS_FILE,
                "pluginsCustomConfig": {PLUGINS_FILE: yaml.safe_dump(plugins, sort_keys=False)},
            },
            "modelServers": {
                "type": server.engine,
                "targetPorts": [{"number": PORT}],
                "matchLabels": {
                    "app.kubernetes.io/name": name,
                    "app.kubernetes.io/component": "engine",
                },
            },
        }
    }
