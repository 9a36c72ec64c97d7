"""Where the time to first token goes: against the tokens that were not in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from scipy import stats

from aot.analysis.measures import metrics

MIN_POINTS = 10
MIN_SPREAD = 2.0
"""The largest count of uncached tokens over the smallest: with less there is no line to fit."""
MOST_POINTS = 1_000
SEED = 20240101
KINDS = ("hit", "partial", "miss")


def fit(frame: pd.DataFrame) -> dict[str, Any] | None:
    """TTFT = fixed_s + s_per_token * uncached tokens, over the answered requests of all arms.

    Theil-Sen (the median of all slopes between two points), which a few stragglers do not move;
    over 1,000 requests at most, drawn with a fixed seed. None where there are too few points, or
    where all have about as many uncached tokens.
    """
    points = pd.DataFrame({"x": metrics.uncached(frame), "y": frame["ttft_s"]})[
        frame["ok"]
    ].dropna()
    if len(points) < MIN_POINTS or points["x"].max() < MIN_SPREAD * max(points["x"].min(), 1):
        return None
    if len(points) > MOST_POINTS:
        points = points.sample(MOST_POINTS, random_state=SEED)
    slope, fixed, low, high = (float(v) for v in stats.theilslopes(points["y"], points["x"]))
    return {
        "fixed_s": fixed,
        "s_per_token": slope,
        "s_per_token_ci95": (low, high),
        "tokens_per_s": 1 / slope if slope > 0 else None,
        "points": len(points),
    }


def kinds(frame: pd.DataFrame, static_blocks: Mapping[str, int]) -> pd.Series:
    """hit: at least the full blocks of the request's static prefix were cached; partial: some
    tokens; miss: none. `static_blocks`: tokens in full blocks by prefix. None where unknown."""
    cached = frame["cached_tokens"]
    wanted = frame["prefix"].map(dict(static_blocks)).astype("float64")
    kind = pd.Series(None, index=frame.index, dtype=object)
    kind[cached.notna() & (cached == 0)] = "miss"
    kind[cached > 0] = "partial"
    kind[(cached > 0) & (wanted > 0) & (cached >= wanted)] = "hit"
    kind[(cached > 0) & wanted.isna()] = None
    return kind


def split(frame: pd.DataFrame, static_blocks: Mapping[str, int]) -> dict[str, Any] | None:
    """Requests and TTFT of one arm by how much of the static prefix was found."""
    good = frame[frame["ok"]]
    kind = kinds(good, static_blocks)
    if kind.notna().sum() == 0:
        return None
    return {
        name: {
            "requests": int((kind == name).sum()),
            "ttft_s": metrics.spread(good.loc[kind == name, "ttft_s"]),
            "uncached_tokens_p50": metrics.spread(metrics.uncached(good[kind == name]))["p50"],
        }
        for name in KINDS
    }
