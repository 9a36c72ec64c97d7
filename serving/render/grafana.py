"""`aot render --target grafana`: a dashboard of what caching does, for one engine (pure)."""

from __future__ import annotations

from typing import Any

from aot.serving.engines.engine import Watched
from aot.serving.render.monitoring import hit_ratio, ttft

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WINDOW = "$__rate_interval"
WIDTH, HEIGHT = 12, 8


def dashboard(engine: str, names: Watched) -> dict[str, Any]:
    """Imports into Grafana 10 and later (schema 39); asks for its Prometheus data source."""
    panels = [
        _panel(place, title, unit, expressions, words)
        for place, (title, unit, expressions, words) in enumerate(_panels(names))
    ]
    return {
        "uid": f"aot-{engine}",
        "title": f"Prefix caching on {engine}",
        "tags": ["aot", engine],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []},
        "templating": {
            "list": [
                {
                    "type": "datasource",
                    "name": "datasource",
                    "label": "Data source",
                    "query": "prometheus",
                    "refresh": 1,
                }
            ]
        },
        "panels": panels,
    }


def _panels(names: Watched) -> list[tuple[str, str, dict[str, str], str]]:
    rate = {k: v.replace("WINDOW", WINDOW) for k, v in (
        ("found in the cache", names.hits), ("computed", names.computed), ("output", names.output),
    )}  # fmt: skip
    return [
        (
            "Prefix cache hit ratio", "percentunit",
            {"{{model_name}}": hit_ratio(names, WINDOW, "model_name")},
            "Found over looked-up prompt tokens. A drop without a deployment is a finding.",
        ),
        (
            "Hit ratio by replica", "percentunit",
            {"{{instance}}": hit_ratio(names, WINDOW, "instance")},
            "Replicas that differ, or are all low under a router: prefixes are not kept together.",
        ),
        (
            "Time to first token", "s",
            {"p50": ttft(names, 0.5, WINDOW), "p99": ttft(names, 0.99, WINDOW)},
            "Interpolated within the engine's buckets.",
        ),
        (
            "Tokens per second", "short",
            {label: f"sum({expression})" for label, expression in rate.items()},
            "What the cache saves: prompt tokens that are found are not computed.",
        ),
        (
            "Requests", "short",
            {"running {{instance}}": names.running, "waiting {{instance}}": names.waiting},
            "Where requests wait, TTFT is queue, and caching shows less.",
        ),
        (
            "KV cache in use", "percentunit", {"{{instance}}": names.kv_usage},
            "By running requests. What is only cached does not count: it can be evicted.",
        ),
    ]  # fmt: skip


def _panel(
    place: int, title: str, unit: str, expressions: dict[str, str], words: str
) -> dict[str, Any]:
    row, column = divmod(place, 2)
    targets = [
        {"refId": chr(65 + n), "datasource": SOURCE, "expr": expression, "legendFormat": label}
        for n, (label, expression) in enumerate(expressions.items())
    ]
    return {
        "id": place + 1,
        "type": "timeseries",
        "title": title,
        "description": words,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 10}},
            "overrides": [],
        },
        "options": {
            "legend": {
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": True,
                "calcs": [],
            },
            "tooltip": {"mode": "multi", "sort": "none"},
        },
        "targets": targets,
    }
