"""Judge whether a longer run would say the same, and name what is left out of this one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from aot.analysis.checks.finding import Finding, Level
from aot.analysis.runs.run import ServerRun

MIN_REQUESTS = 30
"""Fewer requests in a phase have no thirds that say something."""
GROWTH = 2.0
QUEUE = 4
"""A queue: in the last third of a phase more than GROWTH times as many requests in flight as in the
first, and at least this many."""


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


def saturation(frame: pd.DataFrame) -> Iterator[Finding]:
    """Open loop: requests that come faster than they are answered make TTFT a matter of how long
    the run was."""
    check = "no queue that grows"
    open_ = frame[frame["planned_s"].notna()]
    grown, known = [], 0
    for (arm, repeat), phase in open_.groupby(["arm", "repeat"]):
        if len(phase) < MIN_REQUESTS:
            continue
        known += 1
        first, _, last = np.array_split(in_flight(phase), 3)
        begin, end = float(np.median(first)), float(np.median(last))
        if end >= QUEUE and end > GROWTH * max(begin, 1):
            grown.append(f"r{repeat}-{arm} from {begin:.0f} to {end:.0f} requests in flight")
    if grown:
        detail = (
            f"{'; '.join(grown)}: saturated, so its latencies (and the ratios) would grow with a "
            "longer run; compare at a lower rate as well"
        )
        yield Finding("warning", check, detail)
    elif known:
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
