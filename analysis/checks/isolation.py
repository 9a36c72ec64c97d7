"""What the trials of an isolation audit prove, and how sure that is.

Time: in how many trials the prompt that the victim had sent was answered faster than one that
nobody had. Without a leak that is a fair coin. The share has an exact 95 % interval (Clopper &
Pearson 1934); it is a leak where that lies above one half. The order within a trial is drawn by
lot, so that a drift of the server cannot tell the two apart.

Cached tokens: they are exact, so one trial in which the server reports more of them for the
victim's prompt is a leak. Up to OPENING_TOKENS more are none: all prompts share the opening of the
chat template, and words may be alike by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from aot.serving.cache.isolation import Trial

TOLERABLE = 0.80
"""A pass excludes that an attacker's guess by one comparison of times is right more often."""
Verdict = Literal["isolated", "leak", "not settled"]


@dataclass(frozen=True, slots=True)
class Isolation:
    """`faster` of `trials` known prompts were answered faster, a share with `ci95`; `p`: the chance
    of as many or more without a leak. `more_cached` is None where no cached tokens are reported."""

    trials: int
    faster: int
    ci95: tuple[float, float]
    p: float
    known_p50_s: float
    unknown_p50_s: float
    more_cached: int | None
    known_cached_p50: float | None
    unknown_cached_p50: float | None

    @property
    def by_time(self) -> Verdict:
        low, high = self.ci95
        if low > 0.5:
            return "leak"
        return "isolated" if high <= TOLERABLE else "not settled"

    @property
    def by_count(self) -> Verdict | None:
        if self.more_cached is None:
            return None
        return "leak" if self.more_cached else "isolated"

    @property
    def verdict(self) -> Verdict:
        """The worse of the two ways to look."""
        both = (self.by_time, self.by_count)
        if "leak" in both:
            return "leak"
        return "not settled" if "not settled" in both else "isolated"


def judge(trials: Sequence[Trial]) -> Isolation:
    """The verdict on one audit; needs at least one trial."""
    known, unknown = ([getattr(t, side) for t in trials] for side in ("known", "unknown"))
    faster = sum(k.seconds < u.seconds for k, u in zip(known, unknown, strict=True))
    test = stats.binomtest(faster, len(trials), 0.5, alternative="greater")
    exact = stats.binomtest(faster, len(trials)).proportion_ci(0.95, method="exact")
    counts = [
        (k.cached_tokens, u.cached_tokens)
        for k, u in zip(known, unknown, strict=True)
        if k.cached_tokens is not None and u.cached_tokens is not None
    ]
    return Isolation(
        trials=len(trials),
        faster=faster,
        ci95=(float(exact.low), float(exact.high)),
        p=float(test.pvalue),
        known_p50_s=float(np.median([k.seconds for k in known])),
        unknown_p50_s=float(np.median([u.seconds for u in unknown])),
        more_cached=sum(t.shows_by_count for t in trials) if counts else None,
        known_cached_p50=float(np.median([k for k, _ in counts])) if counts else None,
        unknown_cached_p50=float(np.median([u for _, u in counts])) if counts else None,
    )
