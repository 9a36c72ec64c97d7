"""`aot render --target grafana`: a dashboard of what caching does, for one engine (pure)."""

from __future__ import annotations

import hashlib
from typing import Any

from aot.serving.engines.engine import Watched
from aot.serving.render.watching.promql import found_per_s, matching, per_s, quantile

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WINDOW = "$__rate_interval"
CHOSEN = ("namespace", "job", "model_name")
BY = ", ".join(CHOSEN)
MATCHERS = ",".join(f'{label}=~"${label}"' for label in CHOSEN)
WIDTH, HEIGHT = 12, 8


def dashboard(
    engine: str, names: Watched, of: tuple[str, str, str] | None = None
) -> dict[str, Any]:
    """Imports into Grafana 10 and later (schema 39); asks for its Prometheus data source. `of`: the
    deployment that it shows at first: its name, namespace and job."""
    name, *chosen = of or ("",)
    digest = f"-{hashlib.sha256('/'.join(of).encode()).hexdigest()[:8]}" if of else ""
    panels = [
        _panel(place, title, unit, expressions, words)
        for place, (title, unit, expressions, words) in enumerate(_panels(names))
    ]
    return {
        "uid": f"aot-{engine}{digest}",  # two dashboards of one uid are one
        "title": f"Prefix caching on {engine}" + (f": {name}" if name else ""),
        "tags": ["aot", engine],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "annotations": {"list": []},
        "templating": {"list": _variables(names, chosen)},
        "panels": panels,
    }


def _data_source() -> dict[str, Any]:
    return {
        "type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus",
        "refresh": 1,
    }  # fmt: skip


def _variables(names: Watched, chosen: list[str]) -> list[dict[str, Any]]:
    at_first = dict(zip(CHOSEN, chosen, strict=False))
    return [_data_source(), *(_variable(n, names.waiting, at_first.get(n)) for n in CHOSEN)]


def _variable(label: str, metric: str, at_first: str | None) -> dict[str, Any]:
    """One deployment or several, chosen at the top; all of them where nothing is chosen."""
    current = {"text": [at_first or "All"], "value": [at_first or "$__all"]}
    query = f"label_values({metric.split('{')[0]}, {label})"
    return {
        "type": "query", "name": label, "label": label, "datasource": SOURCE, "query": query,
        "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
        "allValue": ".*", "current": current, "options": [],
    }  # fmt: skip


def _panels(names: Watched) -> list[tuple[str, str, dict[str, str], str]]:
    def rate(counter: str, by: str = BY) -> str:
        return per_s(matching(counter, MATCHERS), WINDOW, by)

    def ratio(by: str) -> str:
        found = found_per_s(names, WINDOW, by, MATCHERS)
        return f"({found}) / ({rate(names.lookups, by)} > 0)"

    def ttft(q: float) -> str:
        return quantile(names.ttft, q, WINDOW, BY, MATCHERS)

    running, waiting, usage = (
        matching(gauge, MATCHERS) for gauge in (names.running, names.waiting, names.kv_usage)
    )
    whole, each = "{{namespace}} {{job}} {{model_name}}", "{{namespace}} {{instance}}"
    other = names.hits_beyond
    beyond = {f"had from a host tier or a store {whole}": rate(other)} if other else {}
    return [
        (
            "Prefix cache hit ratio", "percentunit", {whole: ratio(BY)},
            "Found over looked-up prompt tokens, in all tiers. A drop by itself is a finding.",
        ),
        (
            "Hit ratio by replica", "percentunit", {each: ratio("namespace, instance")},
            "Replicas that differ, or are all low under a router: prefixes are not kept together.",
        ),
        (
            "Time to first token", "s", {f"p50 {whole}": ttft(0.5), f"p99 {whole}": ttft(0.99)},
            "Interpolated within the engine's buckets.",
        ),
        (
            "Tokens per second", "short",
            {
                f"found in the cache {whole}": rate(names.hits),
                **beyond,
                f"computed {whole}": rate(names.computed),
                f"output {whole}": rate(names.output),
            },
            "What the cache saves: prompt tokens that are found are not computed.",
        ),
        (
            "Requests", "short", {f"running {each}": running, f"waiting {each}": waiting},
            "Where requests wait, TTFT is queue, and caching shows less.",
        ),
        (
            "KV cache in use", "percentunit", {each: usage},
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
