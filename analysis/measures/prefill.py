"""Where the time to first token goes: against the tokens that were not in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from aot.analysis.measures import metrics

MIN_POINTS = 10
MIN_SPREAD = 2.0
"""The largest count of uncached tokens over the smallest: with less there is no line to fit."""
MOST_POINTS = 300
SAMPLES = 400
"""Of the bootstrap."""
SEED = 20240101
KINDS = ("hit", "partial", "miss")


def fit(frame: pd.DataFrame) -> dict[str, Any] | None:
    """TTFT = fixed_s + s_per_token * uncached tokens, over the answered requests of all arms that
    met an idle server: what others waited is their queue's, not the tokens'.

    Theil-Sen (the median of all slopes between two points), which a few stragglers do not move;
    over 300 requests at most, drawn with a fixed seed. Its interval is a bootstrap over requests:
    the one by ranks (Sen 1968) takes errors as alike, and long prefills vary more than short ones.
    None where there are too few points, or where all have about as many uncached tokens.
    """
    good = frame["ok"] & met_idle(frame)
    points = pd.DataFrame({"x": metrics.uncached(frame), "y": frame["ttft_s"]})[good].dropna()
    if len(points) < MIN_POINTS or points["x"].max() < MIN_SPREAD * max(points["x"].min(), 1):
        return None
    used = points.sample(MOST_POINTS, random_state=SEED) if len(points) > MOST_POINTS else points
    x, y = used["x"].to_numpy(dtype=float), used["y"].to_numpy(dtype=float)
    slope, interval = _slope(x, y)
    return {
        "fixed_s": float(np.median(y - slope * x)),
        "s_per_token": slope,
        "s_per_token_ci95": interval,
        "tokens_per_s": 1 / slope if slope > 0 else None,
        "points": len(used),
    }


def met_idle(frame: pd.DataFrame) -> pd.Series:
    """Which requests were sent when nothing of their phase was in flight; all of them where the
    frame has no times."""
    alone = pd.Series(data=True, index=frame.index)
    if not {"sent_s", "last_token_s"} <= set(frame.columns):
        return alone
    keys = [k for k in ("server", "arm", "repeat") if k in frame]
    for _, rows in frame.groupby(keys, dropna=False) if keys else [((), frame)]:
        ordered = rows.sort_values("sent_s", kind="stable")
        # One without an end may have been in flight for as long as it likes.
        ends = ordered["last_token_s"].fillna(np.inf)
        alone[ordered.index] = ends.cummax().shift(fill_value=-np.inf) <= ordered["sent_s"]
    return alone


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, tuple[float, float]]:
    """The median slope between two points, and its 95 % interval."""
    left, right = np.triu_indices(len(x), 1)
    apart = x[left] != x[right]
    left, right = left[apart], right[apart]
    slopes = (y[right] - y[left]) / (x[right] - x[left])
    order = np.argsort(slopes)
    slopes, left, right = slopes[order], left[order], right[order]
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(len(x), np.full(len(x), 1 / len(x)), size=SAMPLES)
    # A point drawn n times and one drawn m times make n * m pairs: a weighted median.
    medians = []
    for counts in drawn:
        weights = np.cumsum(counts[left] * counts[right])
        medians.append(slopes[min(np.searchsorted(weights, weights[-1] / 2), len(slopes) - 1)])
    low, high = np.quantile(medians, (0.025, 0.975))
    return float(np.median(slopes)), (float(low), float(high))


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


def cold(frame: pd.DataFrame, static_blocks: Mapping[str, int]) -> dict[str, Any] | None:
    """The first request of each static prefix and repeat, where it did not find that: how many, of
    how many that were answered, and how much longer than those that found theirs such a one took at
    the median (None: there is none to tell, or it took no longer). None where cached tokens or
    static prefixes of a block or more are not known."""
    good = frame[frame["ok"]].sort_values("sent_s", kind="stable")
    wanted = good["prefix"].map(dict(static_blocks)).astype("float64")
    known = good[(wanted > 0) & good["cached_tokens"].notna()]
    if known.empty:
        return None
    found = known["cached_tokens"] >= wanted[known.index]
    is_first = ~known.duplicated(["repeat", "prefix"])
    cold_s = known.loc[is_first & ~found, "ttft_s"].median()
    extra_s = cold_s - known.loc[found, "ttft_s"].median()
    return {
        "requests": int((is_first & ~found).sum()),
        "of": len(good),
        "repeats": int(known["repeat"].nunique()),
        "extra_s": float(extra_s) if extra_s > 0 else None,
    }


def firsts(frame: pd.DataFrame) -> dict[str, Any] | None:
    """The first answered request of each static prefix and repeat: how many, their median TTFT,
    and how many of their prompt tokens were found (None where that was not reported). None where
    nothing was answered."""
    good = frame[frame["ok"]].sort_values("sent_s", kind="stable")
    first = good[~good.duplicated(["repeat", "prefix"])]
    if first.empty:
        return None
    return {
        "requests": len(first),
        "ttft_p50_s": float(first["ttft_s"].median()),
        "cached_tokens": metrics.total(first["cached_tokens"]),
        "prompt_tokens": metrics.total(first["prompt_tokens"]),
    }


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
