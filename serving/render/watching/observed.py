"""What has a server watched where the Prometheus operator and Grafana's sidecar are: a PodMonitor,
a PrometheusRule, and the dashboard in a ConfigMap (pure)."""

from __future__ import annotations

import json
from typing import Any

from aot.serving.render.kit import Kit, labels
from aot.serving.render.watching.monitoring import named

SCRAPED_EVERY = "15s"
DASHBOARD = {"grafana_dashboard": "1"}
"""The label that Grafana's sidecar looks for (chart grafana, sidecar.dashboards.label)."""


def manifests(
    kit: Kit,
    engine: str,
    rules: dict[str, Any],
    dashboard: dict[str, Any],
    *,
    router: bool,
    warmed: bool,
) -> list[dict[str, Any]]:
    """Engines and gates by one PodMonitor, a router by another; rules and dashboard of theirs."""
    monitor = "monitoring.coreos.com/v1"
    ports = ["http", *(["gate"] if warmed else [])]
    relabeled = {_camel(key): value for key, value in named(engine).items()}
    scraping = _scraping(kit.labels, ports)
    scraping["podMetricsEndpoints"][0]["metricRelabelings"] = [relabeled]
    made = [kit.manifest(monitor, "PodMonitor", scraping)]
    if router:
        spec = _scraping(labels(kit.name, "router"), ["metrics"])
        made.append(kit.manifest(monitor, "PodMonitor", spec, "-router"))
    made.append(kit.manifest(monitor, "PrometheusRule", rules))
    board = kit.manifest("v1", "ConfigMap", None, "-dashboard")
    board["metadata"]["labels"] = {**board["metadata"]["labels"], **DASHBOARD}
    text = json.dumps(dashboard, indent=1, ensure_ascii=False)
    return [*made, {**board, "data": {f"{kit.name}.json": text}}]


def _camel(key: str) -> str:
    """The operator's spelling of Prometheus' own keys."""
    first, *others = key.split("_")
    return first + "".join(word.capitalize() for word in others)


def _scraping(selected: dict[str, str], ports: list[str]) -> dict[str, Any]:
    return {
        "selector": {"matchLabels": selected},
        "podMetricsEndpoints": [{"port": port, "interval": SCRAPED_EVERY} for port in ports],
    }
