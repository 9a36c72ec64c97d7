"""How often the interval of a simulated capacity search holds the true capacity, and their ratio.

    python -P scripts/bench/capacity_coverage.py [--searches 100]

One server, first come first served, lognormal service times (sigma 0.5), 5 % noise, a start that is
off by 5 % (--drift): mean 1 s in jit and 0.5 s in aot. Each line: limit, requests a replay, share
of intervals that hold the truth in jit, in aot, of their ratio, and the median width of one.
"""

from __future__ import annotations

import math
import sys
from typing import Annotated

import numpy as np
import typer

from aot.analysis.inference.starts import ASSUMED
from aot.analysis.studies import rate_search
from aot.analysis.studies.rate_search import Fitted, Trial
from aot.analysis.studies.slo import WARM_UP
from aot.scripts.bench.simulated import NOISE, queue

LIMITS = ((0.01, 5.0), (0.1, 3.0), (0.5, 1.5))
"""The share that may be beyond, and the seconds."""
REPLAYS = 16
PRECISION = 1.2


def main(
    searches: Annotated[int, typer.Option(help="of each line")] = 100,
    drift: Annotated[float, typer.Option(help="between starts, log standard deviation")] = 0.05,
) -> None:
    """Print the lines."""
    rng = np.random.default_rng(3)
    for share, limit_s in LIMITS:
        truths = [_truth(rng, mean_s, share, limit_s) for mean_s in (1.0, 0.5)]
        for count in (300, 1000):
            found = [
                tuple(
                    _search(rng, mean_s * math.exp(rng.normal(0, drift)), count, share, limit_s)
                    for mean_s in (1.0, 0.5)
                )
                for _ in range(searches)
            ]
            _tell(share, limit_s, count, truths, found)


def _tell(
    share: float, limit_s: float, count: int, truths: list[float],
    found: list[tuple[Fitted | None, ...]],
) -> None:  # fmt: skip
    pairs = [(jit, aot) for jit, aot in found if jit and aot]
    held = [
        sum(pair[n].low_per_s <= truths[n] <= pair[n].high_per_s for pair in pairs) / len(pairs)
        for n in (0, 1)
    ]
    ratios = [rate_search.ratio(*pair) for pair in pairs]
    between = sum(low <= truths[1] / truths[0] <= high for _, low, high in ratios) / len(pairs)
    width = float(np.median([f.high_per_s / f.low_per_s for pair in pairs for f in pair]))
    sys.stdout.write(
        f"p{100 * (1 - share):.0f} ≤ {limit_s:g} s, {count} requests: {held[0]:.2f} {held[1]:.2f}, "
        f"ratio {between:.2f}, width {width:.2f} ({len(pairs)} of {len(found)} searches)\n"
    )
    sys.stdout.flush()


def _times(rng: np.random.Generator, rate: float, count: int, mean_s: float) -> np.ndarray:
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    service = mean_s * rng.lognormal(-0.125, 0.5, count) * rng.lognormal(0, NOISE, count)
    return queue(arrivals, service)


def _truth(rng: np.random.Generator, mean_s: float, share: float, limit_s: float) -> float:
    low, high = 0.05 / mean_s, 0.999 / mean_s
    for _ in range(14):
        middle = math.sqrt(low * high)
        kept = (_times(rng, middle, 400_000, mean_s) > limit_s).mean() <= share
        low, high = (middle, high) if kept else (low, middle)
    return low


def _search(
    rng: np.random.Generator, mean_s: float, count: int, share: float, limit_s: float
) -> Fitted | None:
    trials: list[Trial] = []
    cut = int(count * WARM_UP)
    while len(trials) < REPLAYS:
        rate = rate_search.next_rate(trials, [share], 0.5 / mean_s, PRECISION)
        if rate is None:
            break
        beyond = int((_times(rng, rate, count, mean_s)[cut:] > limit_s).sum())
        trials.append(Trial(rate, (beyond,), count - cut))
    found = rate_search.fit(trials, [share])
    return found.widened(ASSUMED, share) if found else None


if __name__ == "__main__":
    typer.run(main)
