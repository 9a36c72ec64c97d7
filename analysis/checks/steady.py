"""Judge whether a longer run would say the same, and name what is left out of this one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from aot.analysis.checks.finding import Finding, Level
from aot.analysis.runs.run import ServerRun

MIN_REQUESTS = 30
"""Fewer requests in a phase have no course that says something."""
MOST_BATCHES = 20
LEAST_BATCHES = 6
QUEUE = 2
"""Requests in flight on average at the end, from which on one may speak of a queue."""
ALPHA = 0.03
"""Near its capacity a server's queue wanders and cannot fall below 0, so that its course looks like
growth more often than a test's level says: with this level, in 8 % of simulated phases of 100
requests at 95 % of capacity, and 1 % of 1,000."""

Course = Literal["grows", "stays", "open"]


def measured(frame: pd.DataFrame, run: ServerRun, first: int, last: int) -> pd.Series:
    """Which rows count for latencies and comparisons: not the `first` and the `last` requests of
    the schedule, by its order, so that they are the same ones in every arm."""
    if run.schedule is None or not (first or last):
        return pd.Series(data=True, index=frame.index)
    ids = [r.id for r in run.schedule.requests]
    return frame["id"].isin(ids[first : len(ids) - last])


def left_out(run: ServerRun, first: int, last: int) -> Iterator[Finding]:
    check = "warm-up and cool-down"
    if not (first or last):
        return
    if run.schedule and first + last >= len(run.schedule.requests):
        yield Finding("void", check, "skip_first and skip_last leave no request to compare")
        return
    detail = (
        f"the first {first} and the last {last} requests of the schedule count for hit ratios and "
        "throughput, not for latencies, goodput and comparisons"
    )
    yield Finding("ok", check, detail)


def in_flight(phase: pd.DataFrame) -> np.ndarray:
    """Requests in flight when each request was sent, in the order of sending; one of a phase."""
    sent = np.sort(phase["sent_s"].dropna().to_numpy(dtype=float))
    ended = np.sort(phase["last_token_s"].dropna().to_numpy(dtype=float))
    counts: np.ndarray = np.arange(len(sent)) - np.searchsorted(ended, sent)
    return counts


def course(counts: np.ndarray) -> Course:
    """How the requests in flight go, from what each request met when it was sent.

    grows   the means of batches rise by more than their steps explain (one-sided t test of the
            steps between neighbours, which are what varies independently in a queue)
    stays   it does not, and a batch of the second half is back at what was usual in the first
    open    neither can be told from so many requests
    """
    batches = min(max(len(counts) // 10, LEAST_BATCHES), MOST_BATCHES)
    means = np.array([batch.mean() for batch in np.array_split(counts, batches)])
    steps = np.diff(means)
    error = float(np.std(steps, ddof=1)) / float(np.sqrt(len(steps)))
    limit = float(stats.t.ppf(1 - ALPHA, len(steps) - 1)) * error
    if means[-3:].mean() >= QUEUE and steps.mean() > limit:
        return "grows"
    half = batches // 2
    return "stays" if means[half:].min() <= np.median(means[:half]) + 0.5 else "open"


def saturation(frame: pd.DataFrame) -> Iterator[Finding]:
    """Open loop: requests that come faster than they are answered make TTFT a matter of how long
    the run was."""
    check = "no queue that grows"
    open_ = frame[frame["planned_s"].notna()]
    found: dict[Course, list[str]] = {"grows": [], "stays": [], "open": []}
    for (arm, repeat), phase in open_.groupby(["arm", "repeat"]):
        if len(phase) < MIN_REQUESTS:
            continue
        counts = in_flight(phase)
        tenth = max(len(counts) // 10, 1)
        begin, end = counts[:tenth].mean(), counts[-tenth:].mean()
        words = f"r{repeat}-{arm} from {begin:.0f} to {end:.0f} requests in flight"
        found[course(counts)].append(words)
    if found["grows"]:
        detail = (
            f"{'; '.join(found['grows'])}: saturated, so its latencies (and the ratios) would grow "
            "with a longer run; compare at a lower rate as well"
        )
        yield Finding("warning", check, detail)
    if found["open"]:
        detail = f"{'; '.join(found['open'])}: too few requests to tell whether that would go on"
        yield Finding("ok", check, detail)
    if found["stays"] and not (found["grows"] or found["open"]):
        yield Finding("ok", check, "requests in flight stay as many in every phase")


def control(numbers: dict[str, Any]) -> Iterator[Finding]:
    """Where the cache had nothing to find, caching must make no difference."""
    check = "no effect where nothing is cached"
    cache = numbers["arms"].get("auto", {}).get("cache", {})
    hit_ratio = cache.get("client_hit_ratio")
    ratio = next(
        (
            r
            for r in numbers["comparison"]["ratios"]
            if (r["before"], r["after"], r["metric"], r["quantile"])
            == ("jit", "auto", "ttft_s", "p50")
        ),
        None,
    )
    if hit_ratio != 0 or ratio is None or ratio["verdict"] is None:
        return
    low, high = ratio["ci95"]
    detail = (
        f"auto found nothing; TTFT jit ÷ auto is {ratio['ratio']:.2f} "
        f"({low:.2f}–{high:.2f}): {ratio['verdict_words']}"
    )
    level: Level = "warning" if ratio["verdict"] == "effect" else "ok"
    if level == "warning":
        detail += "; caching itself costs or gives that much, or the machine drifted between arms"
    yield Finding(level, check, detail)
