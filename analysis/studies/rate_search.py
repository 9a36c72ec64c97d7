"""The highest rate that keeps a limit, from replays at several rates: a fitted curve (pure).

Every replay draws arrivals of its own and tells how many of its requests were beyond the limit. The
share of requests beyond it is the same in the mean for short and for long replays, which no
quantile of a replay is. In a queue its log rises about linearly with the rate until it saturates
(for M/M/1, P(T > x) = exp(-(μ - λ) x)), so a logistic curve in the rate is fitted; the capacity is
where it crosses the share that the limit allows (0.01 for a p99).

Requests of one replay are not independent: the scatter of the replays around the curve says by how
much (quasi-binomial, McCullagh & Nelder 1989), and the interval is where the profile likelihood
stays within that (F test).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from aot.analysis.inference.starts import Starts

GROWTH = 2.0
"""From one rate to the next while only one side is known."""
AROUND = (1.0, 0.85, 1.15, 0.95, 1.05)
"""Rates over the estimate at which replays go on: near it, and apart enough for a slope."""
LEAST = 10
"""Replays of an arm before a narrow interval ends the search: fewer look narrow by chance."""
LEVEL = 0.99
"""Of the F test: with it the interval holds the truth in 83 to 99 % of simulated searches of 300
and 1,000 requests a replay on starts that differ by 5 % (scripts/bench/capacity_coverage.py, on
average 94 %), its ratios in 87 to 99 %; at 0.98 in 85 to 98 % and 90 to 98 %."""
SLOPES = np.exp(np.linspace(math.log(0.5), math.log(60), 50))
STEPS = 241
REACH = 1.6
"""Beyond the rates tried by this factor no capacity is looked for."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One replay of one arm. `beyond`: how many of the `counted` requests broke each limit, or
    were not answered."""

    rate_per_s: float
    beyond: tuple[int, ...]
    counted: int

    def kept(self, shares: Sequence[float]) -> bool:
        """Whether no limit was broken by more than its share."""
        pairs = zip(self.beyond, shares, strict=True)
        return all(n <= share * self.counted for n, share in pairs)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Requests/s that keep a limit, with a 95 % interval. `slope`: how much the log odds of being
    beyond the limit rise with the rate, at the capacity and per capacity."""

    rate_per_s: float
    low_per_s: float
    high_per_s: float
    slope: float
    limit: int
    """Which limit binds."""
    is_open: bool = False
    """Whether the replays do not bound it on some side: then an end is none, only how far was
    looked."""

    def widened(self, starts: Starts, allowed: float) -> Fitted:
        """With what another start of the server may make of it. One start served all replays of an
        arm, and half of the variance of a ratio of two arms is one arm's.

        For M/M/1 the share beyond x at rate λ is exp(-(μ - λ) x), so that d ln λ / d ln μ is
        μ / λ = 1 + ln(1 / allowed) / (λ x), and the slope of the log odds gives λ x. A capacity
        far below what the server can do moves more than its speed.
        """
        steepness = self.slope * (1 - allowed)
        half = starts.half_width(1.0) / math.sqrt(2) * (1 + math.log(1 / allowed) / steepness)
        center = math.log(self.rate_per_s)
        low = math.hypot(center - math.log(self.low_per_s), half)
        high = math.hypot(math.log(self.high_per_s) - center, half)
        return replace(self, low_per_s=math.exp(center - low), high_per_s=math.exp(center + high))

    def share_beyond(self, rates_per_s: np.ndarray, allowed: float) -> np.ndarray:
        """The curve."""
        return _curve(rates_per_s, self.rate_per_s, self.slope, allowed)


def fit(trials: Sequence[Trial], shares: Sequence[float]) -> Fitted | None:
    """The lowest capacity of all limits; None where the replays are not on both sides of it, or
    fewer than three. `shares`: what each limit allows beyond it."""
    if all(not t.kept(shares) for t in trials):  # whatever each limit alone would say
        return None
    fits = [_fit(trials, n, share) for n, share in enumerate(shares)]
    known = [f for f in fits if f is not None]
    return min(known, key=lambda f: f.rate_per_s, default=None)


def _fit(trials: Sequence[Trial], limit: int, allowed: float) -> Fitted | None:
    rates = np.array([t.rate_per_s for t in trials])
    beyond = np.array([t.beyond[limit] for t in trials], dtype=float)
    counted = np.array([t.counted for t in trials], dtype=float)
    over = beyond > allowed * counted
    if len(trials) < 3 or over.all() or not over.any():
        return None
    capacities = np.geomspace(rates.min() / REACH, rates.max() * REACH, STEPS)
    curves = _curve(rates, capacities[:, None, None], SLOPES[:, None], allowed)
    log_likelihood = (beyond * np.log(curves) + (counted - beyond) * np.log1p(-curves)).sum(axis=-1)
    profile = log_likelihood.max(axis=1)
    best = int(profile.argmax())
    slope = float(SLOPES[log_likelihood[best].argmax()])
    expected = _curve(rates, capacities[best], slope, allowed)
    degrees = len(trials) - 2
    scatter = ((beyond - counted * expected) ** 2 / (counted * expected * (1 - expected))).sum()
    within = max(float(scatter) / degrees, 1.0) * float(stats.f.ppf(LEVEL, 1, degrees)) / 2
    held = capacities[profile >= profile[best] - within]
    low, high = float(held.min()), float(held.max())
    is_open = low <= capacities[0] or high >= capacities[-1]
    return Fitted(float(capacities[best]), low, high, slope, limit, bool(is_open))


def _curve(rates: np.ndarray, capacity: np.ndarray | float, slope: np.ndarray | float,
           allowed: float) -> np.ndarray:  # fmt: skip
    odds = math.log(allowed / (1 - allowed)) + slope * (rates / capacity - 1)
    shares: np.ndarray = np.clip(1 / (1 + np.exp(-np.clip(odds, -30, 30))), 1e-9, 1 - 1e-9)
    return shares


def next_rate(
    trials: Sequence[Trial],
    shares: Sequence[float],
    start_per_s: float,
    precision: float,
    ceiling_per_s: float = math.inf,
) -> float | None:
    """Where the next replay goes: doubled or halved until there is a rate that keeps the limits and
    one that does not, then around what the curve says. None when its interval is at most
    `precision` wide, as a factor, or the rate that is left to try is `ceiling_per_s` or more (what
    the load generator could not offer)."""
    kept = [t.rate_per_s for t in trials if t.kept(shares)]
    missed = [t.rate_per_s for t in trials if not t.kept(shares)]
    if not trials:
        rate = start_per_s
    elif not missed:
        rate = max(kept) * GROWTH
    elif not kept:
        rate = min(missed) / GROWTH
    else:
        found = fit(trials, shares)
        narrow = found and not found.is_open and found.high_per_s <= precision * found.low_per_s
        if narrow and len(trials) >= LEAST:
            return None
        center = found.rate_per_s if found else math.sqrt(max(kept) * min(missed))
        rate = center * AROUND[len(trials) % len(AROUND)]
    return rounded(rate) if rate < ceiling_per_s else None


def ratio(before: Fitted, after: Fitted) -> tuple[float, float, float]:
    """after ÷ before, with the ends of its 95 % interval."""
    center = math.log(after.rate_per_s / before.rate_per_s)
    down = math.hypot(
        math.log(after.rate_per_s / after.low_per_s),
        math.log(before.high_per_s / before.rate_per_s),
    )
    up = math.hypot(
        math.log(after.high_per_s / after.rate_per_s),
        math.log(before.rate_per_s / before.low_per_s),
    )
    return math.exp(center), math.exp(center - down), math.exp(center + up)


def rounded(rate: float) -> float:
    """Three digits are enough to say."""
    return float(f"{rate:.3g}")
