"""`aot render --target prometheus|prometheus-rules`: scraping, recording and alert rules (pure).

Hit ratios are rates of counters over rates of counters, never the engines' gauges. Alerts on the
TTFT objective use two windows of burn rate each (Google, "The Site Reliability Workbook", 5).
"""

from __future__ import annotations

from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.engine import Watched
from aot.serving.topology.container import PORT
from aot.serving.topology.routers import ROUTERS, Router

OBJECTIVE = 0.99
"""Share of requests that must keep the TTFT limit: the error budget is the rest."""
BURN = ((14.4, "1h", "5m", "critical"), (6.0, "6h", "30m", "warning"))
"""Times the budget's even pace, over a long and a short window that must both burn."""
WINDOWS = ("5m", "30m", "1h", "6h")
LESS_THAN_USUAL = 0.7
HIT_RATIO = "aot:prefix_cache_hit_ratio:rate5m"


def hit_ratio(names: Watched, window: str, by: str) -> str:
    """Found over looked-up prompt tokens."""
    hits, lookups = (x.replace("WINDOW", window) for x in (names.hits, names.lookups))
    return f"sum by ({by}) ({hits}) / sum by ({by}) ({lookups})"


def ttft(names: Watched, quantile: float, window: str) -> str:
    """A quantile of TTFT, interpolated within its bucket."""
    buckets = f"sum by (le, model_name) (rate({names.ttft}_bucket[{window}]))"
    return f"histogram_quantile({quantile}, {buckets})"


def scrape(name: str, server: ServerConfig, *, in_cluster: bool) -> dict[str, Any]:
    """prometheus.yml: the server where its file says it listens; or, in a cluster, the pods of
    `aot render --target k8s`, engines and router, by their labels."""
    target = f"{server.host}:{server.port or PORT}"
    jobs = [{"job_name": name, "scrape_interval": "5s", "static_configs": [{"targets": [target]}]}]
    if in_cluster:
        parts = [("engine", "http"), *([("router", "metrics")] if server.front else [])]
        jobs = [_pods(name, server, component, port) for component, port in parts]
    return {"rule_files": ["aot-rules.yml"], "scrape_configs": jobs}


def _pods(name: str, server: ServerConfig, component: str, port: str) -> dict[str, Any]:
    meta = "__meta_kubernetes_pod_"
    labels = [f"{meta}label_app_kubernetes_io_{label}" for label in ("name", "component")]
    return {
        "job_name": f"{name}-{component}",
        "scrape_interval": "5s",
        "kubernetes_sd_configs": [
            {"role": "pod", "namespaces": {"names": [server.container.namespace]}}
        ],
        "relabel_configs": [
            {
                "source_labels": [*labels, f"{meta}container_port_name"],
                "regex": f"{name};{component};{port}",
                "action": "keep",
            }
        ],
    }


def rules(server: ServerConfig, names: Watched, slo_s: float) -> dict[str, Any]:
    """Recording and alert rules. UsageError where no bucket ends at the limit."""
    if slo_s not in names.ttft_bounds_s:
        nearest = min(names.ttft_bounds_s, key=lambda b: abs(b - slo_s))
        raise UsageError(
            f"--ttft-slo: {server.engine} has no bucket that ends at {slo_s:g} s, so the share of "
            f"requests within it is unknown; the nearest is {nearest:g}"
        )
    alerts = _alerts(names, server.engine, slo_s)
    front = server.front
    if front and ROUTERS[front.name].asks_to_render(front.policy):
        alerts.append(_without_affinity(ROUTERS[front.name]))
    groups = [
        {"name": f"aot-{server.engine}", "interval": "15s", "rules": _recorded(names, slo_s)},
        {"name": f"aot-{server.engine}-alerts", "rules": alerts},
    ]
    return {"groups": groups}


def _recorded(names: Watched, slo_s: float) -> list[dict[str, Any]]:
    records = [
        {
            "record": HIT_RATIO,
            "expr": hit_ratio(names, "5m", "model_name"),
        },
        {"record": "aot:ttft_p50_s:rate5m", "expr": ttft(names, 0.5, "5m")},
        {"record": "aot:ttft_p99_s:rate5m", "expr": ttft(names, 0.99, "5m")},
    ]
    for window in WINDOWS:
        within = f'sum by (model_name) (rate({names.ttft}_bucket{{le="{slo_s}"}}[{window}]))'
        whole = f"sum by (model_name) (rate({names.ttft}_count[{window}]))"
        record = f"aot:ttft_slo_errors:ratio_rate{window}"
        records.append({"record": record, "expr": f"1 - {within} / {whole}"})
    return records


def _alerts(names: Watched, engine: str, slo_s: float) -> list[dict[str, Any]]:
    budget, usual = 1 - OBJECTIVE, f"avg_over_time({HIT_RATIO}[1d] offset 1h)"
    lookups = names.lookups.replace("WINDOW", "15m")
    alerts = [
        _alert(
            "PrefixCacheHitRatioDropped",
            f"avg_over_time({HIT_RATIO}[15m]) < {LESS_THAN_USUAL} * {usual} "
            f"and on (model_name) sum by (model_name) ({lookups}) > 0",
            "15m", "warning",
            "Fewer prompt tokens than usual are found: {{ $value | humanizePercentage }}",
            "A template that changed, a new salt, a router without affinity, or a full cache. "
            "aot lint and aot oracle tell which.",
        ),
        _alert(
            "PrefixCacheEvictionStorm", names.pressure, "5m", "warning",
            "The KV cache of {{ $labels.instance }} is too small for what runs",
            "Fewer requests at a time, a larger cache, or more replicas with prefix-aware routing.",
        ),
    ]  # fmt: skip
    for factor, long, short, severity in BURN:
        over = [f"aot:ttft_slo_errors:ratio_rate{w} > {factor * budget:.4g}" for w in (long, short)]
        alerts.append(
            _alert(
                f"TTFTObjectiveBurns{'Fast' if severity == 'critical' else 'Slowly'}",
                " and ".join(over), "2m", severity,
                f"More than {budget:.0%} of requests wait over {slo_s:g} s for a first token",
                f"At this pace the error budget is spent {factor:g} times too fast.",
            )
        )  # fmt: skip
    for alert in alerts:
        alert["labels"]["engine"] = engine
    return alerts


def _without_affinity(router: Router) -> dict[str, Any]:
    """A router that asks a worker to render each prompt: where none can, requests go to whoever is
    idle, and nothing else says so."""
    return _alert(
        "RouterHasNoAffinity",
        f"sum by (instance) (rate({router.undecided_metric}[5m])) > 0",
        "5m", "warning",
        "The router {{ $labels.instance }} sends requests without looking at caches",
        "Its workers do not render prompts for it: start them with --enable-scale-out, as the "
        "toolkit does.",
    )  # fmt: skip


def _alert(
    name: str, expr: str, after: str, severity: str, summary: str, description: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expr,
        "for": after,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }
