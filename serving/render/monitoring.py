"""`aot render --target prometheus|prometheus-rules`: scraping, recording and alert rules (pure).

Hit ratios are rates of counters over rates of counters, never the engines' gauges. Alerts on the
TTFT objective use two windows of burn rate each (Google, "The Site Reliability Workbook", 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.server import ServerConfig
from aot.serving.topology.container import PORT

OBJECTIVE = 0.99
"""Share of requests that must keep the TTFT limit: the error budget is the rest."""
BURN = ((14.4, "1h", "5m", "critical"), (6.0, "6h", "30m", "warning"))
"""Times the budget's even pace, over a long and a short window that must both burn."""
WINDOWS = ("5m", "30m", "1h", "6h")
LESS_THAN_USUAL = 0.7
ROUTER_DECISIONS = "vllm_router_prefix_routing_decisions_total"
HIT_RATIO = "aot:prefix_cache_hit_ratio:rate5m"


@dataclass(frozen=True, slots=True)
class Names:
    """What an engine calls what is watched: whole expressions, with WINDOW for the window."""

    hits: str
    lookups: str
    computed: str
    ttft: str
    ttft_bounds_s: tuple[float, ...]
    running: str
    waiting: str
    kv_usage: str
    output: str
    pressure: str
    """True where the cache is too small for what runs."""


NAMES: Mapping[str, Names] = {
    "vllm": Names(
        hits="rate(vllm:prefix_cache_hits_total[WINDOW])",
        lookups="rate(vllm:prefix_cache_queries_total[WINDOW])",
        computed='rate(vllm:prompt_tokens_by_source_total{source="local_compute"}[WINDOW])',
        ttft="vllm:time_to_first_token_seconds",
        ttft_bounds_s=(
            0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
            10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
        ),
        running="vllm:num_requests_running",
        waiting="vllm:num_requests_waiting",
        kv_usage="vllm:kv_cache_usage_perc",
        output="rate(vllm:generation_tokens_total[WINDOW])",
        # vLLM counts no evictions; preempting is what it does when nothing is left to evict.
        pressure="sum by (instance) (rate(vllm:num_preemptions_total[5m])) > 0",
    ),
    "sglang": Names(
        hits='rate(sglang:realtime_tokens_total{mode="prefill_cache"}[WINDOW])',
        lookups='rate(sglang:realtime_tokens_total{mode=~"prefill_.*"}[WINDOW])',
        computed='rate(sglang:realtime_tokens_total{mode="prefill_compute"}[WINDOW])',
        ttft="sglang:time_to_first_token_seconds",
        ttft_bounds_s=(
            0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0,
            200.0, 400.0,
        ),
        running="sglang:num_running_reqs",
        waiting="sglang:num_queue_reqs",
        kv_usage="sglang:token_usage",
        output="rate(sglang:generation_tokens_total[WINDOW])",
        pressure=(
            "sum by (instance) (rate(sglang:evicted_tokens_total[5m])) > "
            "sum by (instance) (rate(sglang:prompt_tokens_total[5m]))"
        ),
    ),
}  # fmt: skip


def hit_ratio(names: Names, window: str, by: str) -> str:
    """Found over looked-up prompt tokens."""
    hits, lookups = (x.replace("WINDOW", window) for x in (names.hits, names.lookups))
    return f"sum by ({by}) ({hits}) / sum by ({by}) ({lookups})"


def ttft(names: Names, quantile: float, window: str) -> str:
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


def rules(server: ServerConfig, slo_s: float) -> dict[str, Any]:
    """Recording and alert rules. UsageError where no bucket ends at the limit."""
    names = NAMES[server.engine]
    if slo_s not in names.ttft_bounds_s:
        nearest = min(names.ttft_bounds_s, key=lambda b: abs(b - slo_s))
        raise UsageError(
            f"--ttft-slo: {server.engine} has no bucket that ends at {slo_s:g} s, so the share of "
            f"requests within it is unknown; the nearest is {nearest:g}"
        )
    alerts = _alerts(names, server.engine, slo_s)
    if server.front and (server.front.name, server.front.policy) == ("vllm-router", "cache_aware"):
        alerts.append(_without_affinity())
    groups = [
        {"name": f"aot-{server.engine}", "interval": "15s", "rules": _recorded(names, slo_s)},
        {"name": f"aot-{server.engine}-alerts", "rules": alerts},
    ]
    return {"groups": groups}


def _recorded(names: Names, slo_s: float) -> list[dict[str, Any]]:
    found = [
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
        found.append({"record": record, "expr": f"1 - {within} / {whole}"})
    return found


def _alerts(names: Names, engine: str, slo_s: float) -> list[dict[str, Any]]:
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


def _without_affinity() -> dict[str, Any]:
    """vllm-router's cache_aware asks a worker to render each prompt; where it cannot, requests go
    to whoever is idle, and nothing else says so."""
    return _alert(
        "RouterHasNoAffinity",
        f'sum by (instance) (rate({ROUTER_DECISIONS}{{outcome="missing_tokens"}}[5m])) > 0',
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
