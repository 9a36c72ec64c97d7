"""Compare two arms over the same requests: a ratio of quantiles with two 95 % intervals.

Arms replay the same schedule, so request r of one arm pairs with request r of the other. Two things
vary: requests within a repeat, and the starts of the server from repeat to repeat.

`ci95`            what these repeats say. One repeat: by the test in `quantile_ratio`, which knows
                  how requests differ. Several: Student's t over the repeats' own log ratios
                  (Kalibera & Jones 2013, "Rigorous benchmarking in reasonable time").
`next_ci95`       what the next run may say, which verdicts are about: the same from three repeats
                  on; with fewer it is widened by how far starts may differ (`starts`).

What they hold is simulated in tests/analysis/test_intervals.py: no load to 95 % of capacity, 0 to
5 % between starts, 20 to 1,000 requests, 1 to 5 repeats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from aot.analysis.inference import starts as between
from aot.analysis.inference.quantile_ratio import PairedLogs, quantile_interval
from aot.analysis.inference.starts import ASSUMED, ENOUGH, Starts

MIN_PAIRS = 6
"""The smallest and the largest of fewer do not hold the median in 95 %."""
BEYOND = 20
"""Pairs that a quantile needs beyond it: with fewer its interval is one of the largest values."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Speedup:
    """How many times lower a quantile of `after` is than that of `before`, over the same requests.
    Intervals are None where there are too few pairs for one."""

    before: float | None
    after: float | None
    ci95: Interval | None
    """Of these requests, or over these repeats."""
    pairs: int
    repeats: int = 1
    log_sd: float | None = None
    """Of the log ratio from repeat to repeat; None for one repeat."""
    start_half: float = 0.0
    """Half the width, as a log, of what starts of the server alone make of the ratio in 95 %: the
    allowance that widens the interval of fewer than three repeats."""

    @property
    def ratio(self) -> float | None:
        return self.before / self.after if self.before is not None and self.after else None

    @property
    def next_ci95(self) -> Interval | None:
        """Where the ratio of another run of the same lies in 95 %, as far as this one can tell."""
        if self.ci95 is None or not self.ratio or self.repeats >= ENOUGH:
            return self.ci95
        center = float(np.log(self.ratio))
        halves = [abs(float(np.log(end)) - center) for end in self.ci95]
        # Repeats differ by their starts already; requests of one repeat know nothing of them.
        wider = np.hypot if self.repeats == 1 else np.maximum
        low, high = (float(wider(half, self.start_half)) for half in halves)
        return float(np.exp(center - low)), float(np.exp(center + high))


@dataclass(frozen=True, slots=True)
class Level:
    """A quantile of one arm. `ci95` is None where there are too few values for one."""

    value: float | None
    ci95: Interval | None


def matched(before: pd.DataFrame, after: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The requests that both arms answered, by id and repeat: `repeat`, and for each column a
    `before COLUMN` and an `after COLUMN`. In the order in which `before` sent them."""
    keys = ["id", "repeat"]
    if "sent_s" in before:
        before = before.sort_values("sent_s", kind="stable")
    left, right = (
        arm.loc[arm["ok"], [*keys, *columns]].rename(columns={c: f"{side} {c}" for c in columns})
        for side, arm in (("before", before), ("after", after))
    )
    return left.merge(right, on=keys)


def values(match: pd.DataFrame, column: str) -> pd.DataFrame:
    """Columns `before`, `after` and `repeat` of what `matched` gave, where both are known."""
    known = match[["repeat", f"before {column}", f"after {column}"]].dropna()
    return known.set_axis(["repeat", "before", "after"], axis="columns")


def pair(before: pd.DataFrame, after: pd.DataFrame, column: str) -> pd.DataFrame:
    """`values` of one column of the requests that both arms answered."""
    return values(matched(before, after, [column]), column)


def speedup(pairs: pd.DataFrame, q: float = 0.5, starts: Starts = ASSUMED) -> Speedup:
    """The q-quantile of `before` over that of `after` (linear interpolation); over several repeats
    the geometric mean of theirs, so that each start of a server counts as much as another.

    `pairs`: columns before, after and repeat, the rows of a repeat in the order of sending.
    """
    if pairs.empty:
        return Speedup(None, None, None, 0)
    of_repeats = pairs.groupby("repeat")[["before", "after"]].quantile(q).to_numpy(dtype=float)
    repeats, count = len(of_repeats), len(pairs)
    if pairs[["before", "after"]].to_numpy().min() <= 0:  # no logs
        before, after = (float(v) for v in of_repeats.mean(axis=0))
        return Speedup(before, after, None, count, repeats)
    if not _enough(count, q):
        return replace(over_repeats(of_repeats, count, 0.0), ci95=None, log_sd=None)
    allowed = starts.half_width(between.amplification(_series(pairs)), repeats)
    found = over_repeats(of_repeats, count, allowed)
    if repeats > 1:
        return found
    logs = np.log(pairs[["before", "after"]].to_numpy(dtype=float))
    return replace(found, ci95=_exp(PairedLogs(logs, q).interval()))


def over_repeats(of_repeats: np.ndarray, count: int, start_half: float) -> Speedup:
    """From one value above 0 of each side for each repeat (rows of before, after), as `count` pairs
    gave them: geometric means, and Student's t over the log ratios. A single repeat varies in
    nothing that is seen: its interval is a point, and what starts make of it is all there is."""
    before, after = (float(v) for v in np.exp(np.log(of_repeats).mean(axis=0)))
    low, high, log_sd = _t_interval(np.log(of_repeats[:, 0] / of_repeats[:, 1]))
    return Speedup(before, after, _exp((low, high)), count, len(of_repeats), log_sd, start_half)


def _t_interval(logs: np.ndarray) -> tuple[float, float, float | None]:
    """The ends of the 95 % interval of the mean of `logs`, and their standard deviation; of one
    value itself, and None."""
    center, count = float(logs.mean()), len(logs)
    if count == 1:
        return center, center, None
    log_sd = float(np.std(logs, ddof=1))
    half = float(stats.t.ppf(0.975, count - 1)) * log_sd / math.sqrt(count)
    return center - half, center + half, log_sd


def _exp(logs: Interval) -> Interval | None:
    """None for logs without an end."""
    low, high = logs
    return (math.exp(low), math.exp(high)) if math.isfinite(low) and math.isfinite(high) else None


def _enough(count: int, q: float) -> bool:
    return count >= MIN_PAIRS and (q == 0.5 or round(count * (1 - q)) >= BEYOND)


def _series(pairs: pd.DataFrame) -> Iterator[np.ndarray]:
    """The logs of each repeat of each arm."""
    for _, rows in pairs.groupby("repeat"):
        for column in ("before", "after"):
            yield np.log(rows[column].to_numpy(dtype=float))


def level(frame: pd.DataFrame, column: str, q: float = 0.5) -> Level:
    """The q-quantile of one arm's `column`, with an interval of these requests, or repeats."""
    known = frame.loc[frame["ok"], ["repeat", column]].dropna()
    if known.empty:
        return Level(None, None)
    values = known[column].to_numpy(dtype=float)
    value, repeats = float(np.quantile(values, q)), known["repeat"].nunique()
    if not _enough(len(values), q) or values.min() <= 0:
        return Level(value, None)
    if repeats == 1:
        return Level(value, quantile_interval(values, q))
    logs = np.log(known.groupby("repeat")[column].quantile(q).to_numpy(dtype=float))
    low, high, _ = _t_interval(logs)
    return Level(float(np.exp(logs.mean())), _exp((low, high)))
