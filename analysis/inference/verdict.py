"""What may be said of a ratio: an effect, none, or that this was not enough to tell.

A verdict is about the next run: it is drawn from `Speedup.next_ci95`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from aot.analysis.inference.compare import Speedup
from aot.analysis.inference.starts import ENOUGH

MARGIN = 0.05
"""Ratios within 1 ± this are none that anybody acts on."""
MOST_REPEATS = 20
"""More than that nobody measures: then the answer is that it is too close to call."""

Z = float(stats.norm.ppf(0.975))
Kind = Literal["effect", "none", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`repeats_needed`: with this many in all the question would be settled, if nothing changes;
    None where it is settled, or where no number up to `MOST_REPEATS` would.
    `starts_decide`: these requests differ, and starts of the server may do so as much."""

    kind: Kind
    repeats_needed: int | None = None
    starts_decide: bool = False

    @property
    def words(self) -> str:
        if self.kind == "effect":
            return "effect: the interval excludes 1"
        if self.kind == "none":
            return f"no effect to act on: the interval is within 1 ± {MARGIN:g}"
        why = "inconclusive: the interval includes 1"
        if self.starts_decide:
            why = "inconclusive: two starts of the same server may differ as much"
        if self.repeats_needed:
            return f"{why}; {self.repeats_needed} repeats would settle it"
        return why


def judge(speedup: Speedup) -> Verdict:
    """None is called where the interval lies within `MARGIN` of 1, an effect only where it excludes
    1 and does not."""
    interval = speedup.next_ci95
    if interval is None or not speedup.ratio:
        return Verdict("inconclusive")
    low, high = interval
    if low >= 1 - MARGIN and high <= 1 + MARGIN:
        return Verdict("none")
    if low > 1 or high < 1:
        return Verdict("effect")
    assert speedup.ci95 is not None
    seen = speedup.ci95[0] > 1 or speedup.ci95[1] < 1
    return Verdict("inconclusive", _repeats_needed(speedup), seen)


def _repeats_needed(speedup: Speedup) -> int | None:
    """The fewest repeats whose interval would exclude 1, or lie within the margin, with the ratio
    and the spread seen so far (of few repeats: allowed for so far)."""
    assert speedup.next_ci95 is not None
    assert speedup.ratio is not None
    center = abs(float(np.log(speedup.ratio)))
    # What the interval's half-width must come below.
    wanted = max(center, float(np.log1p(MARGIN)) - center)
    log_sd = speedup.log_sd
    if log_sd is None:
        half = float(np.log(speedup.next_ci95[1] / speedup.next_ci95[0])) / 2
        log_sd = half / Z
    elif speedup.repeats < ENOUGH:
        log_sd = max(log_sd, speedup.start_half / Z * float(np.sqrt(speedup.repeats)))
    for repeats in range(max(speedup.repeats + 1, ENOUGH), MOST_REPEATS + 1):
        if float(stats.t.ppf(0.975, repeats - 1)) * log_sd / float(np.sqrt(repeats)) < wanted:
            return repeats
    return None
