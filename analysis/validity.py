"""Judge a run: what voids it, what a reader must know. Rules are stated with each finding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from analysis import oracle
from analysis.runs import Phase, Run

Level = Literal["void", "warning", "ok"]
ANSWERED = "every request answered"

LATENESS_FLOOR_S = 0.005
LATENESS_SHARE = 0.10
GENERATOR_CPU = 0.80
RATIO_TOLERANCE = 0.01
FEW_REQUESTS = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One judgement. A "void" finding means that the numbers must not be used."""

    level: Level
    check: str
    detail: str


def judge(run: Run, frame: pd.DataFrame, summary: dict[str, Any]) -> list[Finding]:
    """All findings, worst first; every check that passed is listed as ok."""
    checks = [
        _cache_state(run),
        _schedule(run),
        _jit_hits(run, frame),
        _failures(run, summary),
        _usage(frame),
        _planned_tokens(run, frame),
        _output_tokens(run, frame),
        _lateness(frame),
        _generator(run),
        _counters(run),
        _hit_ratios(summary),
        _capacity(run),
        _completeness(run, summary),
    ]
    findings = [finding for check in checks for finding in check]
    return sorted(findings, key=lambda f: ("void", "warning", "ok").index(f.level))


def _cache_state(run: Run) -> Iterator[Finding]:
    check = "cache state proved before each arm"
    unproved = [p.name for p in run.phases if p.proof is None]
    failed = [f"{p.name}: {x}" for p in run.phases for x in (p.proof or {}).get("problems", [])]
    cold = [p.name for p in run.phases if p.arm == "aot" and not _all_warm(p.warmed)]
    if failed:
        yield Finding("void", check, "; ".join(failed))
    if cold:
        yield Finding("void", check, f"static prefixes not verified as cached in {', '.join(cold)}")
    if unproved:
        yield Finding("warning", check, f"no proof for {', '.join(unproved)}: state unknown")
    if not (failed or cold or unproved):
        yield Finding("ok", check, "engine configuration and canary prompt agree with every arm")


def _all_warm(warmed: list[dict[str, Any]] | None) -> bool:
    return bool(warmed) and all(w["verified"] for w in warmed or ())


def _jit_hits(run: Run, frame: pd.DataFrame) -> Iterator[Finding]:
    check = "no cache hit in jit"
    if "jit" not in run.arms:
        return
    client = frame.loc[frame["arm"] == "jit", "cached_tokens"]
    server = sum((p.counters.hit_tokens or 0) for p in run.of_arm("jit") if p.counters)
    if client.sum() > 0 or server > 0:
        detail = f"jit hit {client.sum():.0f} tokens (client), {server:.0f} (server)"
        yield Finding("void", check, detail)
    elif client.isna().all() and not any(p.counters for p in run.of_arm("jit")):
        yield Finding("warning", check, "neither client nor server reports cached tokens")
    else:
        yield Finding("ok", check, "0 cached tokens, by client and by server")


def _failures(run: Run, summary: dict[str, Any]) -> Iterator[Finding]:
    check = ANSWERED
    bad = {a: s for a, s in summary["arms"].items() if s["requests"]["failed"]}
    for arm, numbers in bad.items():
        words, count = next(iter(numbers["errors"].items()), ("no text arrived", 0))
        failed = numbers["requests"]["failed"]
        yield Finding("void", check, f"{failed} failed in {arm}, {count} of them: {words}")
    lost = {p.name: n for p in run.phases if p.complete and (n := _lost(run, p))}
    for name, count in lost.items():
        yield Finding("void", check, f"{count} planned requests have no record in {name}")
    if not (bad or lost):
        yield Finding("ok", check, "no failed request, none without a record")


def _lost(run: Run, phase: Phase) -> int:
    if run.schedule is None:
        return 0
    return len({r.id for r in run.schedule.requests} - set(phase.records["id"]))


def _usage(frame: pd.DataFrame) -> Iterator[Finding]:
    check = "token counts reported by the server"
    good = frame[frame["ok"]]
    missing = int(good["prompt_tokens"].isna().sum())
    silent = int(good["cached_tokens"].isna().sum())
    if missing:
        yield Finding("void", check, f"{missing} answers without a usage block")
    elif silent:
        yield Finding(
            "warning",
            check,
            f"{silent} answers without cached tokens: hit ratio not reported there",
        )
    else:
        yield Finding("ok", check, "usage and cached tokens in every answer")


def _planned_tokens(run: Run, frame: pd.DataFrame) -> Iterator[Finding]:
    check = "served prompt tokens as planned"
    if run.tokens is None:
        yield Finding("warning", check, "no tokenizer, so the planned counts are unknown")
        return
    good = frame[frame["ok"] & frame["prompt_tokens"].notna()]
    planned = good["id"].map({k: len(v) for k, v in run.tokens.items()})
    wrong = int((planned != good["prompt_tokens"]).sum())
    if wrong:
        yield Finding("void", check, f"{wrong} of {len(good)} prompts have another token count")
    else:
        yield Finding("ok", check, f"{len(good)} of {len(good)} counts agree")


def _output_tokens(run: Run, frame: pd.DataFrame) -> Iterator[Finding]:
    check = "arms generated the same number of tokens"
    good = frame[frame["ok"]]
    counts = good.groupby(["id", "repeat"])["output_tokens"].nunique()
    planned = run.schedule.max_tokens if run.schedule and run.schedule.ignore_eos else None
    short = int((good["output_tokens"] < planned).sum()) if planned else 0
    if (counts > 1).any():
        detail = f"{int((counts > 1).sum())} requests have different output lengths between arms"
        yield Finding("void", check, detail)
    elif short:
        detail = f"{short} answers are shorter than the planned {planned}, equally in every arm"
        yield Finding("warning", check, detail)
    else:
        yield Finding("ok", check, "equal for every request")


def _lateness(frame: pd.DataFrame) -> Iterator[Finding]:
    check = "requests sent on time"
    late = frame.dropna(subset=["lateness_s"])
    if late.empty:  # a closed loop has no planned times
        return
    fastest = frame[frame["ok"]].groupby("arm")["ttft_s"].median().min()
    limit_s = max(LATENESS_FLOOR_S, LATENESS_SHARE * (fastest if fastest == fastest else 0.0))
    # Per phase: one late phase must not hide among punctual ones.
    worst = float(late.groupby(["arm", "repeat"])["lateness_s"].quantile(0.99).max())
    yield Finding(
        "void" if worst > limit_s else "ok",
        check,
        f"p99 lateness {worst * 1000:.1f} ms in the latest phase, limit {limit_s * 1000:.1f} ms "
        f"({LATENESS_SHARE:.0%} of the fastest arm's median TTFT)",
    )


def _generator(run: Run) -> Iterator[Finding]:
    check = "load generator not the bottleneck"
    shares = [p.generator_cpu for p in run.phases if p.generator_cpu is not None]
    if not shares:
        yield Finding(
            "warning", check, "CPU use of the load generator is unknown (or the replay too short)"
        )
        return
    detail = f"at most {max(shares):.0%} of one core, limit {GENERATOR_CPU:.0%}"
    yield Finding("void" if max(shares) > GENERATOR_CPU else "ok", check, detail)


def _counters(run: Run) -> Iterator[Finding]:
    check = "engine counters over the replay"
    known = [p for p in run.phases if p.counters]
    preempted = {
        p.name: p.counters.preemptions for p in known if p.counters and p.counters.preemptions
    }
    backwards = [p.name for p in known if p.counters and (p.counters.prompt_tokens or 0) < 0]
    if backwards:
        detail = f"counters went backwards in {', '.join(backwards)}: the engine restarted"
        yield Finding("void", check, detail)
    if preempted:
        yield Finding("void", check, f"preempted requests: {preempted}; the KV cache is too small")
    if len(known) < len(run.phases):
        yield Finding("warning", check, "not scraped in every phase")
    elif not (backwards or preempted):
        yield Finding("ok", check, "no preemption, no restart")


def _hit_ratios(summary: dict[str, Any]) -> Iterator[Finding]:
    check = "three hit ratios agree within 1 %"
    apart, alone = [], []
    for arm, numbers in summary["arms"].items():
        cache = numbers["cache"]
        three = [cache[f"{k}_hit_ratio"] for k in ("client", "server", "expected")]
        known = [r for r in three if r is not None]
        if len(known) < 2:
            alone.append(arm)
        elif max(known) - min(known) > RATIO_TOLERANCE:
            shown = ["not reported" if r is None else f"{r:.4f}" for r in three]
            apart.append(f"{arm}: client {shown[0]}, server {shown[1]}, expected {shown[2]}")
    if apart:
        yield Finding("warning", check, "; ".join(apart))
    if alone:
        detail = f"nothing to compare in {', '.join(alone)}: fewer than two are reported"
        yield Finding("warning", check, detail)
    if not (apart or alone):
        yield Finding("ok", check, "client, server and expectation, where reported")


def _capacity(run: Run) -> Iterator[Finding]:
    check = "prompts fit into the KV cache"
    facts = next((p.facts for p in run.phases if p.facts and p.arm != "jit"), None)
    if run.tokens is None or facts is None or not facts.block_tokens or not facts.capacity_tokens:
        return
    working_set = oracle.distinct_tokens(run.tokens.values(), facts.block_tokens)
    detail = f"working set {working_set:,} tokens, capacity {facts.capacity_tokens:,} tokens"
    if working_set > facts.capacity_tokens:
        detail += "; expected hits are an upper bound, because eviction is not modelled"
        yield Finding("warning", check, detail)
    else:
        yield Finding("ok", check, detail)


def _schedule(run: Run) -> Iterator[Finding]:
    check = "all arms replayed the same schedule"
    hashes = {h for p in run.phases for h in p.schedule_hashes}
    if run.schedule_sha256 and hashes - {run.schedule_sha256}:
        yield Finding("void", check, "records name another schedule than schedule.jsonl")
    elif len(hashes) > 1:
        yield Finding("void", check, "the arms' records name different schedules")
    elif hashes:
        yield Finding("ok", check, f"sha256 {hashes.pop()}")


def _completeness(run: Run, summary: dict[str, Any]) -> Iterator[Finding]:
    for missing in run.missing:
        yield Finding("warning", "run complete", missing)
    counts = [s["requests"]["ok"] for s in summary["arms"].values()]
    if counts and min(counts) < FEW_REQUESTS:
        yield Finding(
            "warning",
            "enough requests for tails",
            f"{min(counts)} answered requests in the smallest arm: p99 is close to the maximum, "
            f"{FEW_REQUESTS} or more say something about tails",
        )
