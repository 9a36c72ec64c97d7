"""What may be said of a ratio: an effect, none, or that this was not enough to tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from aot.analysis.inference.compare import Speedup, Z

MARGIN = 0.05
"""Ratios within 1 ± this are none that anybody acts on."""
MOST_REPEATS = 1000

Kind = Literal["effect", "none", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`repeats_needed`: with this many in all the question would be settled, if nothing changes;
    None where it is settled, or where nothing can be said."""

    kind: Kind
    repeats_needed: int | None = None

    @property
    def words(self) -> str:
        if self.kind == "effect":
            return "effect: the interval excludes 1"
        if self.kind == "none":
            return f"no effect: the interval is within 1 ± {MARGIN:g}"
        more = f"; {self.repeats_needed} repeats would settle it" if self.repeats_needed else ""
        return f"inconclusive: the interval includes 1{more}"


def judge(speedup: Speedup) -> Verdict:
    """An effect is called only where the interval excludes 1; none only where it lies within
    `MARGIN` of 1."""
    if speedup.ci95 is None or not speedup.ratio:
        return Verdict("inconclusive")
    low, high = speedup.ci95
    if low > 1 or high < 1:
        return Verdict("effect")
    if low >= 1 - MARGIN and high <= 1 + MARGIN:
        return Verdict("none")
    return Verdict("inconclusive", _repeats_needed(speedup))


def _repeats_needed(speedup: Speedup) -> int | None:
    """The fewest repeats whose interval would exclude 1, or lie within the margin, with the ratio
    and the spread seen so far."""
    assert speedup.ci95 is not None
    assert speedup.ratio is not None
    center = abs(float(np.log(speedup.ratio)))
    # What the interval's half-width must come below.
    wanted = max(center, float(np.log1p(MARGIN)) - center)
    half = float(np.log(speedup.ci95[1] / speedup.ci95[0])) / 2
    for repeats in range(speedup.repeats + 1, MOST_REPEATS + 1):
        if speedup.log_sd is None:  # one repeat: more of them are more requests, at the least
            then = half * float(stats.t.ppf(0.975, repeats - 1)) / Z / float(np.sqrt(repeats))
        else:
            then = float(stats.t.ppf(0.975, repeats - 1)) * speedup.log_sd / float(np.sqrt(repeats))
        if then < wanted:
            return repeats
    return None
