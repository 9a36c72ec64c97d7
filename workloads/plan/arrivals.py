"""Planned arrival offsets, from a seeded generator that is passed in."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from aot.configs.schema.draws import (
    Arrivals,
    BurstArrivals,
    ConstantArrivals,
    DiurnalArrivals,
    GammaArrivals,
    PoissonArrivals,
    RampArrivals,
)
from aot.workloads.plan.draws import normal

DECIMALS = 6  # microseconds; also hides differences in the last bit of log() between machines


def offsets(arrivals: Arrivals, count: int, rng: random.Random) -> list[float]:
    """`count` offsets in seconds, ascending; the first request leaves at 0."""
    match arrivals:
        case PoissonArrivals(rate_per_s=rate):
            gaps = (_exponential(rate, rng) for _ in range(count - 1))
        case ConstantArrivals(rate_per_s=rate):
            gaps = (1.0 / rate for _ in range(count - 1))
        case GammaArrivals(rate_per_s=rate, cv=cv):
            shape = 1 / cv**2
            gaps = (_gamma(shape, rng) / (shape * rate) for _ in range(count - 1))
        case BurstArrivals() | RampArrivals() | DiurnalArrivals():
            return _thinned(*_rate(arrivals), count, rng)
    times, now = [0.0], 0.0
    for gap in gaps:
        now += gap
        times.append(round(now, DECIMALS))
    return times[:count]


def _exponential(rate_per_s: float, rng: random.Random) -> float:
    """By the inverse of its distribution function: -ln(1 - u) / rate."""
    return -math.log(1.0 - rng.random()) / rate_per_s


def _gamma(shape: float, rng: random.Random) -> float:
    """Marsaglia and Tsang, ACM TOMS 26 (2000); below 1 by their boost."""
    if shape < 1:
        boosted: float = _gamma(shape + 1, rng) * (1.0 - rng.random()) ** (1 / shape)
        return boosted
    d = shape - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        x = normal(rng)
        v = (1 + c * x) ** 3
        if v > 0 and math.log(1.0 - rng.random()) < 0.5 * x * x + d - d * v + d * math.log(v):
            return d * v


Rate = Callable[[float], float]


def _rate(arrivals: BurstArrivals | RampArrivals | DiurnalArrivals) -> tuple[Rate, float]:
    """The rate at each moment, and its largest value."""
    match arrivals:
        case BurstArrivals(rate_per_s=on, off_rate_per_s=off, on_s=on_s, off_s=off_s):
            return (lambda t: on if t % (on_s + off_s) < on_s else off), max(on, off)
        case RampArrivals(from_per_s=first, to_per_s=last, ramp_s=ramp_s):
            return (lambda t: first + (last - first) * min(1.0, t / ramp_s)), max(first, last)
        case DiurnalArrivals(low_per_s=low, high_per_s=high, period_s=period_s):
            middle, swing = (low + high) / 2, (high - low) / 2
            return (lambda t: middle - swing * math.cos(2 * math.pi * t / period_s)), max(low, high)


def _thinned(rate: Rate, most: float, count: int, rng: random.Random) -> list[float]:
    """A Poisson process whose rate changes (Lewis and Shedler 1979)."""
    times, now = [0.0], 0.0
    while len(times) < count:
        now += _exponential(most, rng)
        if rng.random() * most < rate(now):
            times.append(round(now, DECIMALS))
    return times[:count]
