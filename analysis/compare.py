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
BATCH_VALUES = 2_000_000  # resampled at a time: bounds the memory


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times lower the median of `after` is than that of `before`, over the same requests.
    `ci95` is None below MIN_PAIRS pairs."""

    before: float | None
    after: float | None
    ci95: tuple[float, float] | None
    pairs: int

    @property
    def ratio(self) -> float | None:
        return self.before / self.after if self.before is not None and self.after else None


def pair(before: pd.DataFrame, after: pd.DataFrame, column: str) -> pd.DataFrame:
    """Columns `before` and `after`: the requests that both arms answered, by id and repeat."""
    keys = ["id", "repeat"]
    left = before.loc[before["ok"], [*keys, column]].rename(columns={column: "before"})
    right = after.loc[after["ok"], [*keys, column]].rename(columns={column: "after"})
    return left.merge(right, on=keys).dropna()


def median_speedup(pairs: pd.DataFrame) -> Speedup:
    """median(before) / median(after) over the pairs."""
    if pairs.empty:
        return Speedup(None, None, None, 0)
    before, after = pairs["before"].to_numpy(), pairs["after"].to_numpy()
    medians = float(np.median(before)), float(np.median(after))
    if len(pairs) < MIN_PAIRS:
        return Speedup(*medians, None, len(pairs))
    result = stats.bootstrap(
        (before, after),
        _ratio,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_VALUES // len(pairs)),
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    interval = result.confidence_interval
    return Speedup(*medians, (float(interval.low), float(interval.high)), len(pairs))


def _ratio(before: np.ndarray, after: np.ndarray, axis: int = -1) -> np.ndarray:
    ratio: np.ndarray = np.median(before, axis=axis) / np.median(after, axis=axis)
    return ratio
