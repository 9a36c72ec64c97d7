"""How often verdicts on simulated traffic are wrong, over load, drift, requests and repeats.

    python -P scripts/bench/verdict_coverage.py [--draws 200] [--ratio 1.0]

One server, first come first served, the same schedule in both arms, 5 % noise of service times and
a drift between two starts of the process. With --ratio 1 every effect that is called is false; with
another one the share is the power. Each line: requests, repeats, quantile, then a cell for each
load (0, 0.5, 0.8, 0.95) and drift (0, 2, 5 %): effects called / intervals of the next run that
hold the ratio.
"""

from __future__ import annotations

import sys
from itertools import product
from typing import Annotated

import numpy as np
import typer

from aot.analysis.inference.compare import speedup
from aot.analysis.inference.verdict import judge
from aot.scripts.bench.simulated import pairs

LOADS = (0.0, 0.5, 0.8, 0.95)
DRIFTS = (0.0, 0.02, 0.05)
REQUESTS = (20, 60, 200, 1000)
REPEATS = (1, 2, 3, 5)


def main(
    draws: Annotated[int, typer.Option(help="of each cell")] = 200,
    ratio: Annotated[float, typer.Option(help="the true one")] = 1.0,
) -> None:
    """Print the grid."""
    rng = np.random.default_rng(1)
    for q, count, repeats in product((0.5, 0.9), REQUESTS, REPEATS):
        if q == 0.5 or count * repeats >= 200:
            cells = [_cell(rng, count, load, drift, repeats, q, ratio, draws)
                     for load, drift in product(LOADS, DRIFTS)]  # fmt: skip
            sys.stdout.write(f"{count:5d} {repeats} p{100 * q:.0f}  {'  '.join(cells)}\n")
            sys.stdout.flush()


def _cell(
    rng: np.random.Generator, count: int, load: float, drift: float, repeats: int, q: float,
    ratio: float, draws: int,
) -> str:  # fmt: skip
    effects = held = known = 0
    for _ in range(draws):
        found = speedup(pairs(rng, count, load, drift, repeats, ratio), q)
        if found.ci95 is not None:
            known += 1
            effects += judge(found).kind == "effect"
            assert found.next_ci95 is not None
            held += found.next_ci95[0] <= ratio <= found.next_ci95[1]
    return f"{effects / known:.3f}/{held / known:.2f}" if known else "  –  /  – "


if __name__ == "__main__":
    typer.run(main)
