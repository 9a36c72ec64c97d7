"""summary.json: every number of the report under stable keys. None where nothing is known.

arms.ARM.{ttft_s,ttft_from_planned_s,tpot_s,itl_s,itl_per_token_s,e2e_s}.{p50,p90,p99,mean}
arms.ARM.stream.{tokens_per_chunk,merged,chunks_per_read,in_one_read,hidden_tokens,finish_reasons,resent}
                                                   analysis/measures/streaming.py
arms.ARM.throughput.{requests_per_s,output_tokens_per_s,prompt_tokens_per_s,duration_s,in_flight_mean}
arms.ARM.goodput.{slo,share,requests_per_s}         None without an SLO in the workload file
arms.ARM.cache.{client_hit_ratio,server_hit_ratio,expected_hit_ratio,predicted_hit_ratio,
                achieved_of_reachable,cached_tokens,prompt_tokens,losses}   …/cache/losses.py
arms.ARM.log.{prompt_tokens,output_tokens,hit_ratio}   analysis/measures/logged.py
arms.ARM.requests.{planned,ok,failed}, arms.ARM.cancels.{cancelled,retried} (None: none),
arms.ARM.errors.{TEXT: COUNT}
arms.ARM.by_hit.{hit,partial,miss}.{requests,ttft_s,uncached_tokens_p50}
arms.auto.cold.{requests,of,repeats,extra_s}   first requests of a prefix: …/measures/prefill.py
arms.ARM.firsts.{requests,ttft_p50_s,cached_tokens,prompt_tokens}   the same place
arms.ARM.routing.{replicas,imbalance,cold_requests,prefixes}   analysis/measures/replicas.py
arms.ARM.{tiers.{device,host,disk,store},store}   analysis/measures/tiers.py
arms.aot.floor.{with_prefix_s,suffix_alone_s,ratio,ci95,pairs}   …/distance.py
arms.aot.warming.{prefixes,prefill_s}                before the clock, of one repeat
arms.ARM.retention.{predicted_p50_s,observed_p50_s,…}   analysis/measures/retention.py
arms.ARM.server.{stages,overhead_ttft_s,gauges}   analysis/measures/server_times.py
prefill.{fixed_s,s_per_token,s_per_token_ci95,tokens_per_s,points}   analysis/measures/prefill.py
comparison.{ttft_p50_speedup,ttft_p50_speedup_ci95,verdict,...}      aot against jit
comparison.ratios[]: before, after, metric, quantile, ratio, ci95 (of these repeats), next_ci95
                     (of the next run), pairs, repeats, verdict (effect, none, inconclusive; None:
                     too few pairs), repeats_needed
comparison.starts    how starts of the server were allowed for
answers.{caching,compiling,floor}                    analysis/inference/answers.py
headlines[], headline                                the sentences of the page
With one server those are at the top; servers.NAME has the same, with engine and version, for each.
between_servers: the first server against each other one, per arm, over the same requests.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aot.analysis.inference import answers, comparison, distance, starts
from aot.analysis.measures import (
    hits,
    logged,
    metrics,
    prefill,
    replicas,
    retention,
    server_times,
    streaming,
    tiers,
)
from aot.analysis.runs.phases import Phase
from aot.analysis.runs.run import Run, ServerRun

FORMAT = "aot-summary/2"


def summarize(run: Run, frame: pd.DataFrame) -> dict[str, Any]:
    """All numbers of `run`; `frame` is metrics.derive of all its records."""
    servers = {
        server.name: {
            "engine": server.engine.name,
            "version": server.version or None,
            "model": server.facts["model"],
            **of_server(server, metrics.of_server(frame, server.name)),
        }
        for server in run.servers
    }
    only = next(iter(servers.values())) if len(servers) == 1 else {}
    return {
        "format": FORMAT,
        "name": run.manifest["name"],
        "schedule_sha256": run.schedule_sha256,
        **{key: only[key] for key in ("arms", "comparison", "prefill", "answers") if key in only},
        "servers": servers,
        "between_servers": comparison.between_servers(
            {s.name: s.facts for s in run.servers}, frame
        ),
    }


def of_server(server: ServerRun, frame: pd.DataFrame) -> dict[str, Any]:
    """arms, comparison and answers of one server; `frame` has its records only."""
    timed = frame[frame["measured"]]
    numbers: dict[str, Any] = {
        "arms": {arm: _arm(server, arm, frame[frame["arm"] == arm]) for arm in server.arms},
        "comparison": comparison.of_arms(timed, starts.of_server(server.facts)),
        "prefill": prefill.fit(timed),
    }
    return numbers | {"answers": answers.of_server(numbers)}


def _arm(run: ServerRun, arm: str, frame: pd.DataFrame) -> dict[str, Any]:
    phases = run.of_arm(arm)
    ok, cancelled = int(frame["ok"].sum()), int(frame["cancelled"].sum())
    planned = len(run.schedule.requests) * len(phases) if run.schedule else None
    timed = frame[frame["measured"]]
    static = static_blocks(run, phases)
    gaps = [p.gaps_s for p in phases]
    gaps_s = np.concatenate(gaps) if len(gaps) > 1 else gaps[0]
    return {
        "requests": {"planned": planned, "ok": ok, "failed": len(frame) - ok - cancelled},
        "cancels": metrics.cancels(frame),
        "errors": frame["error"][~frame["cancelled"]].dropna().value_counts().to_dict(),
        "ttft_s": metrics.spread(timed["ttft_s"]),
        "ttft_from_planned_s": metrics.spread(timed["planned_ttft_s"]),
        "tpot_s": metrics.spread(timed["tpot_s"]),
        "itl_s": _gaps(frame, gaps_s),
        "itl_per_token_s": _gaps(frame, streaming.per_token(frame, gaps_s)),
        "e2e_s": metrics.spread(timed["e2e_s"]),
        "throughput": throughput(frame),
        "goodput": _goodput(run, frame, timed),
        "by_hit": prefill.split(timed, static),
        "cold": prefill.cold(frame, static) if arm == "auto" else None,
        "firsts": prefill.firsts(frame),
        "routing": replicas.of_arm(phases, frame, static),
        "cache": _cache(run, phases, frame),
        "tiers": tiers.of_arm(tiers.tokens_of(phases), frame, _on_device(run, phases, frame)),
        "store": tiers.store_of(phases),
        "log": logged.of_arm(run.of(phases[0]).schedule, frame),
        "floor": distance.from_floor(phases),
        "warming": _warming(phases),
        "server": server_times.of_arm(phases, frame),
        "retention": retention.of_arm(run, phases),
        "stream": streaming.of_arm(frame),
    }


def _gaps(frame: pd.DataFrame, gaps_s: np.ndarray) -> dict[str, float | None]:
    """Quantiles of the gaps between chunks; none where they are those of a buffer."""
    if streaming.is_buffered(frame):
        return metrics.spread(np.array([]))
    return metrics.spread(metrics.inter_token_latencies(frame, gaps_s, frame["measured"]))


def _warming(phases: list[Phase]) -> dict[str, Any] | None:
    """What was prefilled before the clock, and how long that took: of one repeat, on average."""
    known = [p.warmed for p in phases if p.warmed]
    if not known or len(known) < len(phases):
        return None
    return {
        "prefixes": len(known[0]),
        "prefill_s": sum(w["prefill_s"] for warmed in known for w in warmed) / len(known),
    }


def throughput(frame: pd.DataFrame) -> dict[str, float | None]:
    """Answered work per second of replay; with repeats, total work over total duration."""
    durations = [metrics.duration_s(phase) for _, phase in frame.groupby("repeat")]
    total_s = sum(d for d in durations if d)
    good = frame[frame["ok"]]

    def per_s(amount: float) -> float | None:
        return float(amount) / total_s if total_s else None

    def tokens(column: str) -> float | None:
        return None if good[column].isna().any() else per_s(good[column].sum())

    return {
        "requests_per_s": per_s(len(good)),
        "output_tokens_per_s": tokens("output_tokens"),
        "prompt_tokens_per_s": tokens("prompt_tokens"),
        "duration_s": total_s or None,
        # Little's law: what is in flight on average is rate × time. Gauges, scraped once a second,
        # miss what happens between two scrapes.
        "in_flight_mean": per_s(good["e2e_s"].sum()),
    }


def _goodput(run: ServerRun, frame: pd.DataFrame, timed: pd.DataFrame) -> dict[str, Any] | None:
    """Requests that kept the workload's SLO; None where it has none. A failed request kept none."""
    if not run.slo or timed.empty:
        return None
    share = float(metrics.good(timed, run.slo).mean())
    all_per_s = throughput(frame)["requests_per_s"]
    answered = float(frame["ok"].mean())
    per_s = all_per_s / answered * share if all_per_s is not None and answered else None
    return {"slo": run.slo, "share": share, "requests_per_s": per_s}


def _cache(run: ServerRun, phases: list[Phase], frame: pd.DataFrame) -> dict[str, Any]:
    good = frame[frame["ok"]]
    client = metrics.ratio(good["cached_tokens"], good["prompt_tokens"])
    expected = hits.expected_hit_ratio(run, phases)
    return {
        "client_hit_ratio": client,
        "server_hit_ratio": hits.server_hit_ratio(phases),
        "expected_hit_ratio": expected,
        "achieved_of_reachable": client / expected if client is not None and expected else None,
        "predicted_hit_ratio": hits.predicted_hit_ratio(phases, good),
        "cached_tokens": metrics.total(good["cached_tokens"]),
        "prompt_tokens": metrics.total(good["prompt_tokens"]),
        "losses": hits.losses_of(run, phases),
        "tiers": tiers.tokens_of(phases),
    }


def static_blocks(run: ServerRun, phases: list[Phase]) -> dict[str, int]:
    """Tokens in full blocks of each static prefix; empty where they are not known."""
    rule = next((p.facts.reuse for p in phases if p.facts), None)
    if rule is None:
        return {}
    prefixes = run.of(phases[0]).static_prefixes
    return {p: rule.expected_tokens(len(i), len(i) + 1) for p, i in prefixes.items()}


def _on_device(run: ServerRun, phases: list[Phase], frame: pd.DataFrame) -> pd.Series:
    """What each request must find on the device, whatever lies beyond it; NaN where unknown."""
    found = {
        (p.repeat, request): n
        for p in phases
        for request, n in (hits.found_on_device(run, p) or {}).items()
    }
    keys = zip(frame["repeat"], frame["id"], strict=True)
    return pd.Series([found.get(key) for key in keys], index=frame.index, dtype="float64")
