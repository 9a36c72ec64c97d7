"""Judge a run: what voids it, what a reader must know. Rules are stated with each finding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from aot.analysis.checks import cache_checks, record_checks, replicas, steady, traffic
from aot.analysis.checks.finding import LEVELS, Finding
from aot.analysis.runs.phases import Phase
from aot.analysis.runs.run import ServerRun

ANSWERED = "every request answered"
OFFERED = "requests sent on time"
"""Where that fails, a rate was planned and not offered."""

LATENESS_FLOOR_S = 0.005
LATENESS_SHARE = 0.10
GENERATOR_CPU = 0.80
FEW_LAGS = 100
"""Fewer samples of the event loop's lag have no 99th percentile."""
STILL_S = 0.1
"""A lag from here on is a standstill,"""
STILL_SHARE = 0.10
"""and with more of a closed loop's replay in them, its times are those of the standstill."""
FEW_REQUESTS = 100


def judge(run: ServerRun, frame: pd.DataFrame, summary: dict[str, Any]) -> list[Finding]:
    """All findings, worst first; every check that passed is listed as ok."""
    checks = [
        cache_checks.state(run),
        record_checks.facts(run),
        _schedule(run),
        traffic.replayed(run, summary),
        cache_checks.jit_hits(run, frame),
        _failures(run, summary),
        traffic.cancels(run, frame, summary),
        replicas.check(run, frame),
        _once(frame),
        _clock(frame),
        record_checks.check(run, frame),
        record_checks.stream(run, frame),
        _usage(run, frame),
        _planned_tokens(run, frame),
        _output_tokens(run, frame),
        _lateness(frame),
        _generator(run),
        _loop_lag(run, frame),
        steady.saturation(frame),
        steady.left_out(run, *run.skip),
        steady.control(summary),
        cache_checks.counters(run),
        cache_checks.second_count(run),
        cache_checks.hit_ratios(summary),
        cache_checks.impossible_hits(run, summary),
        cache_checks.capacity(run),
        _as_shipped(run),
        _completeness(run, summary),
    ]
    findings = [finding for check in checks for finding in check]
    return sorted(findings, key=lambda f: LEVELS.index(f.level))


def _failures(run: ServerRun, summary: dict[str, Any]) -> Iterator[Finding]:
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


def _lost(run: ServerRun, phase: Phase) -> int:
    if run.schedule is None:
        return 0
    return len({r.id for r in run.schedule.requests} - set(phase.records["id"]))


def _once(frame: pd.DataFrame) -> Iterator[Finding]:
    twice = int(frame.duplicated(["arm", "repeat", "id"]).sum())
    if twice:
        detail = f"{twice} records name a request that has one already in the same phase"
        yield Finding("void", "one record for each request", detail)


def _clock(frame: pd.DataFrame) -> Iterator[Finding]:
    """Times of one request are of one monotonic clock: they cannot run backwards."""
    check = "clock runs forwards"
    good = frame[frame["ok"]]
    wrong = (good["first_token_s"] < good["sent_s"]) | (
        good["last_token_s"] < good["first_token_s"]
    )
    if wrong.any():
        ids = ", ".join(good.loc[wrong, "id"].head(3))
        detail = f"{int(wrong.sum())} answers have a time before the one it follows ({ids})"
        yield Finding("void", check, f"{detail}: records of different clocks, or edited")


def _usage(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
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
    elif run.silent_zeros:
        detail = (
            f"{run.silent_zeros} answers without cached tokens count as 0: this server reports "
            "them elsewhere, and leaves out a 0"
        )
        yield Finding("ok", check, detail)
    else:
        yield Finding("ok", check, "usage and cached tokens in every answer")


def _planned_tokens(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
    check = "served prompt tokens as planned"
    if run.tokens is None:
        yield Finding("warning", check, "no tokenizer, so the planned counts are unknown")
        return
    wrong = known = 0
    for phase in run.phases:
        counts = {k: len(v) for k, v in run.prompts(phase).items()}
        rows = phase.records[phase.records["error"].isna() & phase.records["prompt_tokens"].notna()]
        planned = rows["id"].map(counts).dropna()
        known += len(planned)
        wrong += int((planned != rows["prompt_tokens"].loc[planned.index]).sum())
    if wrong:
        yield Finding("void", check, f"{wrong} of {known} prompts have another token count")
    elif known < int((frame["ok"] & frame["prompt_tokens"].notna()).sum()):
        yield Finding("warning", check, f"{known} counts agree; of the others none was planned")
    else:
        yield Finding("ok", check, f"{known} of {known} counts agree")


def _output_tokens(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
    check = "arms generated the same number of tokens"
    good = frame[frame["ok"]]
    counts = good.groupby(["id", "repeat"])["output_tokens"].nunique()
    schedule = run.schedule if run.schedule and run.schedule.ignore_eos else None
    limits = {r.id: schedule.output_tokens(r) for r in schedule.requests} if schedule else {}
    # As numbers: an arm without an answer has no column to tell from.
    planned = good["id"].map(limits).astype("float64")
    short = int((good["output_tokens"] < planned).sum())
    if (counts > 1).any():
        detail = f"{int((counts > 1).sum())} requests have different output lengths between arms"
        yield Finding("void", check, detail)
    elif short:
        detail = f"{short} answers are shorter than planned, equally in every arm"
        yield Finding("warning", check, detail)
    else:
        yield Finding("ok", check, "equal for every request")


def _late_limit_s(frame: pd.DataFrame) -> float:
    """How late the load generator may be before its lateness is what is measured."""
    fastest = frame[frame["ok"]].groupby("arm")["ttft_s"].median().min()
    return max(LATENESS_FLOOR_S, LATENESS_SHARE * (fastest if fastest == fastest else 0.0))


def _loop_lag(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
    check = "load generator's event loop on time"
    lags = [p.lags_s for p in run.phases if len(p.lags_s)]
    if not lags:
        return
    limit_s = _late_limit_s(frame)
    worst = max(_tail(values) for values in lags)
    detail = f"p99 lag {worst * 1000:.1f} ms in the worst phase, limit {limit_s * 1000:.1f} ms"
    stood = max(map(_stood_still, run.phases))
    if stood > 0:
        detail += f"; it stood still for {stood:.0%} of a replay"
    # In an open loop lateness tells whether it mattered. In a closed loop nothing is planned, and
    # a loop that stands still stamps what has arrived, and sends what is next, when it goes on.
    if stood > STILL_SHARE and frame["planned_s"].isna().all():
        yield Finding("void", check, detail)
    else:
        yield Finding("warning" if worst > limit_s or stood > STILL_SHARE else "ok", check, detail)


def _tail(lags_s: list[float]) -> float:
    """The 99th percentile; 0 for samples too few to have one."""
    return float(np.quantile(lags_s, 0.99)) if len(lags_s) >= FEW_LAGS else 0.0


def _stood_still(phase: Phase) -> float:
    """The share of a replay in which the event loop did nothing."""
    sent, ended = phase.records["sent_s"].min(), phase.records["last_token_s"].max()
    stood_s = sum(lag for lag in phase.lags_s if lag >= STILL_S)
    return stood_s / (ended - sent) if ended > sent else 0.0


def _lateness(frame: pd.DataFrame) -> Iterator[Finding]:
    check = OFFERED
    late = frame.dropna(subset=["lateness_s"])
    if late.empty:  # a closed loop has no planned times
        return
    limit_s = _late_limit_s(frame)
    # Per phase: one late phase must not hide among punctual ones.
    worst = float(late.groupby(["arm", "repeat"])["lateness_s"].quantile(0.99).max())
    yield Finding(
        "void" if worst > limit_s else "ok",
        check,
        f"p99 lateness {worst * 1000:.1f} ms in the latest phase, limit {limit_s * 1000:.1f} ms "
        f"({LATENESS_SHARE:.0%} of the fastest arm's median TTFT)",
    )


def _generator(run: ServerRun) -> Iterator[Finding]:
    check = "load generator not the bottleneck"
    shares = [p.generator_cpu for p in run.phases if p.generator_cpu is not None]
    if not shares:
        yield Finding(
            "warning", check, "CPU use of the load generator is unknown (or the replay too short)"
        )
        return
    detail = f"at most {max(shares):.0%} of one core, limit {GENERATOR_CPU:.0%}"
    yield Finding("void" if max(shares) > GENERATOR_CPU else "ok", check, detail)


def _schedule(run: ServerRun) -> Iterator[Finding]:
    check = "all arms replayed the same schedule"
    hashes = {h for p in run.phases if run.of(p) is run for h in p.schedule_hashes}
    others = {h for p in run.phases if run.of(p) is not run for h in p.schedule_hashes}
    if run.mended and others - {run.mended.schedule_sha256}:
        yield Finding("void", check, "records of mended name another schedule than mended's")
    if run.schedule_sha256 and hashes - {run.schedule_sha256}:
        yield Finding("void", check, "records name another schedule than schedule.jsonl")
    elif len(hashes) > 1:
        yield Finding("void", check, "the arms' records name different schedules")
    elif hashes:
        yield Finding("ok", check, f"sha256 {hashes.pop()}")


def _completeness(run: ServerRun, summary: dict[str, Any]) -> Iterator[Finding]:
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


def _as_shipped(run: ServerRun) -> Iterator[Finding]:
    for key, words in run.engine.file_rules.modified_by.items():
        if run.config.get(key):
            yield Finding("warning", "engine as shipped", f"{key} was on: {words}")
