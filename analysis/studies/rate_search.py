"""Which rate to try next, to find the highest that keeps an SLO: bracket, then bisect (pure)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

GROWTH = 2.0
"""From one rate to the next while only one side is known."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A rate and whether the limits were kept at it."""

    rate_per_s: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Bracket:
    """The highest rate that kept the limits, and the lowest above it that did not; None where that
    side was not met."""

    kept_per_s: float | None
    missed_per_s: float | None


def bracket(tried: Sequence[Tried]) -> Bracket:
    """A rate above one that was missed does not count, whatever it gave: capacity is what holds up
    to there."""
    missed = min((t.rate_per_s for t in tried if not t.kept), default=None)
    kept = [t.rate_per_s for t in tried if t.kept and (missed is None or t.rate_per_s < missed)]
    return Bracket(max(kept, default=None), missed)


def next_rate(tried: Sequence[Tried], start_per_s: float, precision: float) -> float | None:
    """None when the bracket is at most `precision` wide, as a factor."""
    if not tried:
        return start_per_s
    bounds = bracket(tried)
    if bounds.missed_per_s is None:
        assert bounds.kept_per_s is not None
        return rounded(bounds.kept_per_s * GROWTH)
    if bounds.kept_per_s is None:
        return rounded(bounds.missed_per_s / GROWTH)
    if bounds.missed_per_s / bounds.kept_per_s <= precision:
        return None
    middle = rounded(math.sqrt(bounds.kept_per_s * bounds.missed_per_s))
    return middle if bounds.kept_per_s < middle < bounds.missed_per_s else None


def rounded(rate: float) -> float:
    """Three digits are enough to say."""
    return float(f"{rate:.3g}")
