"""Traffic to hold statistics against: a queue, and two arms on it whose ratio is known.

The benchmarks of coverage and the tests draw from the same.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

NOISE = 0.05
"""Log standard deviation of a service time, from one replay of a request to the next."""
SIZES = 0.6
"""That of the sizes of requests; their mean is 1."""


def queue(arrivals_s: np.ndarray, service_s: np.ndarray) -> np.ndarray:
    """Times from arrival to the end of service of one server, first come first served (Lindley)."""
    done = np.cumsum(service_s)
    times: np.ndarray = (
        done + np.maximum.accumulate(arrivals_s - np.append(0.0, done[:-1])) - arrivals_s
    )
    return times


def pairs(
    rng: np.random.Generator, count: int, load: float, drift: float, repeats: int, ratio: float
) -> pd.DataFrame:
    """The same schedule in both arms, as `inference.compare.speedup` takes it: `before` takes
    `ratio` times as long, and each start of a server is off by `drift`."""
    arrivals = np.cumsum(rng.exponential(1 / max(load, 1e-4), count))
    sizes = rng.lognormal(-(SIZES**2) / 2, SIZES, count)

    def one() -> np.ndarray:
        noise = rng.lognormal(0, NOISE, count) * np.exp(rng.normal(0, drift))
        return queue(arrivals, sizes * noise)

    rows = [{"before": ratio * one(), "after": one(), "repeat": r} for r in range(repeats)]
    return pd.concat([pd.DataFrame(row) for row in rows])
