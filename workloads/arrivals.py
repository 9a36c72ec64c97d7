"""Planned arrival offsets, from a seeded generator that is passed in.

Only random.Random.random() is drawn from: Python guarantees its sequence for a seed, on every
platform and version, and guarantees it for no other distribution.
"""

from __future__ import annotations

import math
import random

from configs.schema import Arrivals, ConstantArrivals, PoissonArrivals

DECIMALS = 6  # microseconds; also hides differences in the last bit of log() between machines


def offsets(arrivals: Arrivals, count: int, rng: random.Random) -> list[float]:
    """`count` offsets in seconds, ascending; the first request leaves at 0."""
    match arrivals:
        case PoissonArrivals(rate_per_s=rate):
            # Inverse CDF of the exponential distribution: gap = -ln(1 - u) / rate.
            gaps = [-math.log(1.0 - rng.random()) / rate for _ in range(count - 1)]
        case ConstantArrivals(rate_per_s=rate):
            gaps = [1.0 / rate] * (count - 1)
    times, now = [0.0], 0.0
    for gap in gaps:
        now += gap
        times.append(round(now, DECIMALS))
    return times[:count]
