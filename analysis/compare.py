"""Compare two arms over the same requests: a ratio with a bootstrap confidence interval.

Arms replay the same schedule, so request r of one arm pairs with request r of the other, and pairs
are resampled together (Efron & Tibshirani 1993, percentile interval).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES = 5_000
SEED = 20240101  # any constant: the same records give the same interval
MIN_PAIRS = 5


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times lower the median of `after` is. `ci95` is None below MIN_PAIRS pairs."""

    ratio: float | None
    ci95: tuple[float, float] | None
    pairs: int


def pair(before: pd.DataFrame, after: pd.DataFrame, column: str) -> pd.DataFrame:
    """Columns `before` and `after`: the requests that both arms answered, by id and repeat."""
    keys = ["id", "repeat"]
    left = before.loc[before["ok"], [*keys, column]].rename(columns={column: "before"})
    right = after.loc[after["ok"], [*keys, column]].rename(columns={column: "after"})
    return left.merge(right, on=keys).dropna()


def median_speedup(pairs: pd.DataFrame) -> Speedup:
    """median(before) / median(after) over the pairs."""
    if pairs.empty:
        return Speedup(None, None, 0)
    before, after = pairs["before"].to_numpy(), pairs["after"].to_numpy()
    point = _ratio(before, after)
    if len(pairs) < MIN_PAIRS:
        return Speedup(float(point), None, len(pairs))
    result = stats.bootstrap(
        (before, after),
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    interval = result.confidence_interval
    return Speedup(float(point), (float(interval.low), float(interval.high)), len(pairs))


def _ratio(before: np.ndarray, after: np.ndarray, axis: int = -1) -> np.ndarray:
    ratio: np.ndarray = np.median(before, axis=axis) / np.median(after, axis=axis)
    return ratio
