"""Draws from distributions, the same on every machine: only random.Random.random() is drawn from.

Python guarantees its sequence for a seed on every platform and version, and guarantees it for no
other distribution.
"""

from __future__ import annotations

import random
from bisect import bisect
from itertools import accumulate
from math import exp, log
from statistics import NormalDist

from aot.configs.schema.draws import Distribution, LogNormal, Uniform

STANDARD = NormalDist()
P90 = STANDARD.inv_cdf(0.9)


def stream(seed: int, purpose: str) -> random.Random:
    """One stream of randomness per decision: changing one knob leaves the other draws alone."""
    # Seeding with a string hashes it with SHA-512: the same on every machine.
    return random.Random(f"{seed}/{purpose}")


def value(distribution: Distribution, rng: random.Random) -> float:
    """One draw."""
    match distribution:
        case LogNormal(median=median, p90=p90, max=most):
            sigma = log(p90 / median) / P90
            drawn = median * exp(sigma * normal(rng))
            return drawn if most is None else min(drawn, most)
        case Uniform(low=low, high=high):
            return low + (high - low) * rng.random()
        case _:
            return float(distribution)


def count(distribution: Distribution, rng: random.Random) -> int:
    """One draw of a number of things: at least 1."""
    if isinstance(distribution, Uniform):  # both ends as often as what is between
        return max(
            1, int(distribution.low + (distribution.high - distribution.low + 1) * rng.random())
        )
    return max(1, round(value(distribution, rng)))


def normal(rng: random.Random) -> float:
    """A standard normal draw, by the inverse of its distribution function."""
    return STANDARD.inv_cdf(min(max(rng.random(), 1e-12), 1 - 1e-12))


def zipf(items: int, exponent: float, rng: random.Random) -> Zipf:
    """Draws of 0..items-1, item k with probability proportional to (k+1)**-exponent."""
    return Zipf(list(accumulate((k + 1) ** -exponent for k in range(items))), rng)


class Zipf:
    """Call it for the next draw."""

    def __init__(self, cumulative: list[float], rng: random.Random) -> None:
        self._cumulative, self._rng = cumulative, rng

    def __call__(self) -> int:
        return bisect(self._cumulative, self._rng.random() * self._cumulative[-1])

    def several(self, count: int) -> list[int]:
        """`count` different items."""
        items: dict[int, None] = {}
        while len(items) < count:
            items[self()] = None
        return list(items)


def shuffled(items: list[int], rng: random.Random) -> list[int]:
    """Fisher–Yates; random.shuffle's draws are not guaranteed."""
    permutation = list(items)
    for n in range(len(permutation) - 1, 0, -1):
        partner = int(rng.random() * (n + 1))
        permutation[n], permutation[partner] = permutation[partner], permutation[n]
    return permutation
