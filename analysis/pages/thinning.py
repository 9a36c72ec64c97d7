"""Fewer points than there are requests: what a picture or a page can show one by one."""

from __future__ import annotations

import numpy as np
import pandas as pd

SLOWEST = 300
"""Of each arm, kept whatever else is left out: outliers are what one looks for."""


def thin(good: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most `most` rows of answered requests, and SLOWEST of each arm: the slowest of each, and
    others at equal distances, in the order of `good`."""
    if len(good) <= most:
        return good
    slowest = good.groupby("arm")["ttft_s"].nlargest(SLOWEST).index.get_level_values(-1)
    kept = good.index.isin(slowest)
    others = np.flatnonzero(~kept)
    step = max(1, -(-len(others) // max(most - int(kept.sum()), 1)))
    kept[others[::step]] = True
    return good[kept]


def evenly(count: int, most: int) -> np.ndarray:
    """Places of at most `most` of `count` values in order, the first and the last among them."""
    places: np.ndarray = np.linspace(0, count - 1, min(count, most)).astype(int)
    return places
