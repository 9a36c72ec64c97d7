"""`aot render --target prometheus-rules`: recording and alert rules (pure).

Everything is told apart by namespace, job and model: a neighbour that serves the same model hides
nothing. Ratios are recorded where there was traffic only, so that idleness is no value; alerts ask
for some traffic, so that two requests in an hour wake nobody. Alerts on the TTFT objective use two
windows of burn rate each (Google, "The Site Reliability Workbook", 5).
"""

from __future__ import annotations

from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.serving.engines.engine import Watched
from aot.serving.render.watching.promql import found_per_s, per_s, quantile, selected, total
from aot.serving.topology.routers import Router

OBJECTIVE = 0.99
"""Share of requests that must keep the TTFT limit: the error budget is the rest."""
BURN = ((14.4, "1h", "5m", "critical"), (6.0, "6h", "30m", "warning"))
"""Times the budget's even pace, over a long and a short window that must both burn."""
WINDOWS = ("5m", "30m", "1h", "6h")
LESS_THAN_USUAL = 0.7
LOOKED_UP_PER_S = 10
"""Prompt tokens: with fewer than 9,000 in a quarter of an hour a low ratio says nothing."""
SLOW_REQUESTS = 10
"""In the long window: fewer are no pace at which a budget is spent."""
SHORT_LIFE_S = 60
"""What is not used again within a minute is lost to conversations (serving/health/faults.py)."""
MOST_PREEMPTED = 0.01
BY = "namespace, job, model_name"
HITS, LOOKUPS = "aot:prefix_cache_hit_tokens:rate5m", "aot:prefix_cache_lookup_tokens:rate5m"
RATIO = "aot:prefix_cache_hit_ratio:rate5m"
RUNBOOKS = "docs/runbooks.md"


def rules(
    engine: str,
    names: Watched,
    slo_s: float,
    router: Router | None,
    runbooks: str,
    of: str | None = None,
) -> dict[str, Any]:
    """Groups of one engine. `router`: one that can lose sight of prompts. `runbooks`: the page that
    alerts link to. `of`: matchers of the one deployment that they are about; None: all that are
    scraped. UsageError where no bucket of the engine ends at the limit."""
    if slo_s not in names.ttft_bounds_s:
        nearest = min(names.ttft_bounds_s, key=lambda b: abs(b - slo_s))
        raise UsageError(
            f"--ttft-slo: {engine} has no bucket that ends at {slo_s:g} s, so the share of "
            f"requests within it is unknown; the nearest is {nearest:g}"
        )
    alerts = [_dropped(engine), _evicted(names), _preempted(names), *_burns(engine, names, slo_s)]
    alerts += [_absent(names), _not_warmed()]
    records = _recorded(engine, names, slo_s)
    if of:
        for rule in (*records, *alerts):
            rule["expr"] = selected(rule["expr"], engine, of)
    if router:
        alerts.append(_without_affinity(router))
    for alert in alerts:
        alert["labels"]["engine"] = engine
        alert["annotations"]["runbook_url"] = f"{runbooks}#{alert['alert'].lower()}"
    return {
        "groups": [
            {"name": f"aot-{engine}", "interval": "15s", "rules": records},
            {"name": f"aot-{engine}-alerts", "rules": alerts},
        ]
    }


def _recorded(engine: str, names: Watched, slo_s: float) -> list[dict[str, Any]]:
    hits = found_per_s(names, "5m", BY)
    lookups = per_s(names.lookups, "5m", BY)
    records = {
        HITS: hits,
        LOOKUPS: lookups,
        RATIO: f"({hits}) / ({lookups} > 0)",
        "aot:ttft_p50_s:rate5m": quantile(names.ttft, 0.5, "5m", BY),
        "aot:ttft_p99_s:rate5m": quantile(names.ttft, 0.99, "5m", BY),
    }
    for window in WINDOWS:
        within = per_s(_within(names, slo_s), window, BY)
        whole = per_s(f"{names.ttft}_count", window, BY)
        records[f"aot:ttft_slo_errors:ratio_rate{window}"] = f"1 - {within} / ({whole} > 0)"
    return [
        {"record": name, "expr": expr, "labels": {"engine": engine}}
        for name, expr in records.items()
    ]


def _within(names: Watched, slo_s: float) -> str:
    return f'{names.ttft}_bucket{{le="{float(slo_s)}"}}'


def _dropped(engine: str) -> dict[str, Any]:
    """Against the day before, both weighted by traffic: hours without any count for nothing."""
    hits, lookups = (f'avg_over_time({n}{{engine="{engine}"}}' for n in (HITS, LOOKUPS))
    now = f"{hits}[15m]) / ({lookups}[15m]) > {LOOKED_UP_PER_S})"
    usual = f"{hits}[1d] offset 1h) / ({lookups}[1d] offset 1h) > 0)"
    return _alert(
        "PrefixCacheHitRatioDropped", f"{now} < {LESS_THAN_USUAL} * ({usual})", "15m", "warning",
        "Fewer prompt tokens than usual are found: {{ $value | humanizePercentage }}",
        "A template that changed, a new salt, a router without affinity, a cold replica, or a full "
        "cache. aot check and aot watch --events tell which.",
    )  # fmt: skip


def _evicted(names: Watched) -> dict[str, Any]:
    return _alert(
        "PrefixCacheEvictionStorm", f"({names.kept_s}) < {SHORT_LIFE_S}", "15m", "warning",
        "What {{ $labels.instance }} keeps is displaced after {{ $value | humanizeDuration }}",
        "The cache is too small for this traffic: a larger one, a host tier, or more replicas with "
        "prefix-aware routing. aot check LOG says how large it must be.",
    )  # fmt: skip


def _preempted(names: Watched) -> dict[str, Any]:
    by = "namespace, job, instance, model_name"
    count = total(names.preemptions, "15m", by)
    requests = total(f"{names.ttft}_count", "15m", by)
    return _alert(
        "RequestsPreempted",
        f"{count} > {MOST_PREEMPTED} * {requests} and {count} >= {SLOW_REQUESTS}",
        "5m", "warning",
        "Requests on {{ $labels.instance }} lose their place in the cache while they run",
        "What runs does not fit: fewer requests at a time, a larger cache, or more replicas.",
    )  # fmt: skip


def _burns(engine: str, names: Watched, slo_s: float) -> list[dict[str, Any]]:
    budget, alerts = 1 - OBJECTIVE, []
    for factor, long, short, severity in BURN:
        over = [
            f'aot:ttft_slo_errors:ratio_rate{w}{{engine="{engine}"}} > {factor * budget:.4g}'
            for w in (long, short)
        ]
        whole = total(f"{names.ttft}_count", long, BY)
        slow = f"({whole} - {total(_within(names, slo_s), long, BY)} >= {SLOW_REQUESTS})"
        alerts.append(
            _alert(
                f"TTFTObjectiveBurns{'Fast' if severity == 'critical' else 'Slowly'}",
                f"{' and '.join(over)} and on ({BY}) {slow}", "2m", severity,
                f"More than {budget:.0%} of requests wait over {slo_s:g} s for a first token",
                f"At this pace the error budget is spent {factor:g} times too fast.",
            )
        )  # fmt: skip
    return alerts


def _absent(names: Watched) -> dict[str, Any]:
    """Of whom there was something within the last day and is nothing; or there never was. An engine
    without requests may have gauges only."""
    there = f"count by ({BY}) ({names.lookups} or {names.waiting})"
    over_a_day = (f"present_over_time({name}[1d])" for name in (names.lookups, names.waiting))
    seen = f"count by ({BY}) ({' or '.join(over_a_day)})"
    return _alert(
        "EngineMetricsAbsent",
        f"({seen} unless {there}) "
        f"or (absent({names.lookups}) unless on () {seen})",
        "5m", "critical",
        "No metrics of {{ $labels.job }} {{ $labels.model_name }}: it is down, or not scraped",
        "All other alerts are silent without them.",
    )  # fmt: skip


def _not_warmed() -> dict[str, Any]:
    """Of the gates beside engines, where there are any (scripts/warmed/gate.py)."""
    return _alert(
        "WarmingFailed", "max by (namespace, job, instance) (aot_gate_failed) > 0", "10m",
        "warning",
        "What is compiled cannot be put into the cache beside {{ $labels.instance }}",
        "It serves what it had, or is not Ready where it had nothing. The gate's log says why.",
    )  # fmt: skip


def _without_affinity(router: Router) -> dict[str, Any]:
    """A router that asks a worker to render each prompt: where none can, requests go to whoever is
    idle, and nothing else says so."""
    count = total(str(router.undecided_metric), "15m", "namespace, job, instance")
    return _alert(
        "RouterHasNoAffinity",
        f"{count} >= {SLOW_REQUESTS}",
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
