"""`aot render --target helm-values --chart llm-d`: values of the charts `llm-d-router-standalone`
and `llm-d-router-gateway` (pure).

Its endpoint picker chooses among the pods of `aot render --target k8s`. Where the engines publish
KV events it knows what each of them holds; else it remembers which prefixes it sent where. The
charts were rendered with these values by Helm, and not installed.
"""

from __future__ import annotations

from typing import Any

import yaml

from aot.configs.schema.server import ServerConfig
from aot.serving.render.kit import labels
from aot.serving.topology.container import PORT

PLUGINS_FILE = "aot-plugins.yaml"
RENDERER = "http://localhost:8000"
"""The tokenizer beside the picker (charts' README, 5)."""
PRECISE = "precise-prefix-cache-producer"


def values(name: str, server: ServerConfig) -> dict[str, Any]:
    """`name`: that of the manifests."""
    precise = (server.kv_events or "").startswith("tcp://")
    plugins = _precise(server) if precise else _remembering(server)
    config = {"apiVersion": "llm-d.ai/v1alpha1", "kind": "EndpointPickerConfig", **plugins}
    router: dict[str, Any] = {
        "epp": {
            "pluginsConfigFile": PLUGINS_FILE,
            "pluginsCustomConfig": {PLUGINS_FILE: yaml.safe_dump(config, sort_keys=False)},
        },
        "modelServers": {
            "type": server.engine,
            "targetPorts": [{"number": PORT}],
            "matchLabels": labels(name, "engine"),
        },
    }
    if precise:
        router["tokenizer"] = {"enabled": True, "modelName": server.model}
    return {"router": router}


def _profile(*plugins: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "default", "plugins": list(plugins)}]


def _remembering(server: ServerConfig) -> dict[str, Any]:
    longest = {"maxPrefixTokensToMatch": server.context_tokens or 131_072}
    return {
        "plugins": [
            {"type": "token-load-scorer"},
            {"type": "inflight-load-producer"},
            {"type": "approx-prefix-cache-producer", "parameters": longest},
            {"type": "prefix-cache-affinity-filter", "parameters": {"affinityThreshold": 0.8}},
        ],
        "schedulingProfiles": _profile(
            {"pluginRef": "prefix-cache-affinity-filter"}, {"pluginRef": "token-load-scorer"}
        ),
    }


def _precise(server: ServerConfig) -> dict[str, Any]:
    """As deploy/config/epp-precise-prefix-cache-config.yaml of llm-d-router 0.10."""
    producer: dict[str, Any] = {"kvEventsConfig": {"engineType": server.engine}}
    if server.block_tokens:
        producer["tokenProcessorConfig"] = {"blockSize": server.block_tokens}
    asked = {"modelName": server.model, "vllm": {"url": RENDERER}}
    return {
        "plugins": [
            {"type": "token-producer", "parameters": asked},
            {"type": "endpoint-notification-source"},
            {"type": "metrics-data-source"},
            {"type": "core-metrics-extractor"},
            {"type": "single-profile-handler"},
            {"type": PRECISE, "parameters": producer},
            {
                "type": "prefix-cache-scorer",
                "parameters": {"prefixMatchInfoProducerName": PRECISE},
            },
            {"type": "kv-cache-utilization-scorer"},
            {"type": "queue-scorer"},
            {"type": "max-score-picker"},
        ],
        "dataLayer": {
            "sources": [
                {
                    "pluginRef": "metrics-data-source",
                    "extractors": [{"pluginRef": "core-metrics-extractor"}],
                },
                {
                    "pluginRef": "endpoint-notification-source",
                    "extractors": [{"pluginRef": PRECISE}],
                },
            ]
        },
        "schedulingProfiles": _profile(
            {"pluginRef": "prefix-cache-scorer", "weight": 2.0},
            {"pluginRef": "kv-cache-utilization-scorer", "weight": 1.0},
            {"pluginRef": "queue-scorer", "weight": 1.0},
            {"pluginRef": "max-score-picker"},
        ),
    }
