"""How one start of a server differs from the next, and what that does to a ratio of few repeats.

Requests vary within a repeat; the process that serves them varies from start to start, and a repeat
meets one start of each arm. Fewer than `ENOUGH` repeats cannot tell what of a ratio is the start's,
so it is allowed for: by the spread that `aot calibrate` measured on this machine with this server
file, or by `ASSUMED`.

A queue makes more of it: where requests wait for each other, a server that is 1 % slower answers
1 / (1 - load) % later (M/M/1: E[T] = s / (1 - λ s)). The load is not asked for but seen, by how
much one request's time tells of the next one's: on simulated queues 1 / (1 - autocorrelation) is
that factor within a third, from 20 requests at no load to 1,000 at 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

ENOUGH = 3
"""Repeats from which on they themselves say how they differ."""
ASSUMED_LOG_SD = 0.05
"""Of a start's speed, where nothing was measured: 5 %, as seen on a quiet machine of two cores."""

UNSURE = 0.3
"""Standard errors of the autocorrelation that are added to it, and"""
LONGEST = 0.75
"""the largest factor over the root of the requests: both such that on simulated queues no effect is
called where there is none, and one of 2 is up to half the capacity (tests/analysis/)."""


@dataclass(frozen=True, slots=True)
class Starts:
    """`log_sd`: standard deviation of the log of a start's times. `degrees`: of freedom it was
    measured with; None where it is assumed."""

    log_sd: float = ASSUMED_LOG_SD
    degrees: int | None = None

    @property
    def words(self) -> str:
        how = "assumed" if self.degrees is None else f"measured over {self.degrees + 1} starts"
        return f"starts of the server differ by {self.log_sd:.1%} ({how})"

    def half_width(self, amplified: float, repeats: int = 1) -> float:
        """Of the 95 % interval of a log ratio of two arms, by their starts alone."""
        level = stats.norm.ppf(0.975) if self.degrees is None else stats.t.ppf(0.975, self.degrees)
        return float(level) * math.sqrt(2 / repeats) * self.log_sd * amplified


ASSUMED = Starts()


def of_both(facts: Mapping[str, Any], others: Mapping[str, Any]) -> Starts:
    """Of two servers, by their entries in manifests, the one whose starts tell less."""
    known = [of_server(facts), of_server(others)]
    return max(known, key=lambda starts: starts.half_width(1.0))


def measured(frame: pd.DataFrame) -> Starts | None:
    """From the repeats of one arm, each on a start of its own: how the medians of the same requests
    differ. Where they queued that is more than their starts, which errs on the safe side. None for
    fewer than `ENOUGH` repeats."""
    good = frame[frame["ok"] & frame["measured"]]
    table = good.pivot_table(index="id", columns="repeat", values="ttft_s").dropna()
    if table.shape[1] < ENOUGH or table.empty:
        return None
    logs = np.log(table.to_numpy(dtype=float))
    return Starts(float(np.std(np.median(logs, axis=0), ddof=1)), logs.shape[1] - 1)


def of_server(facts: Mapping[str, Any]) -> Starts:
    """By a server's entry in the manifest: as it was calibrated when the run was made; else
    `ASSUMED`."""
    known = facts.get("starts")
    if not isinstance(known, dict) or not isinstance(known.get("log_sd"), float):
        return ASSUMED
    return Starts(known["log_sd"], known.get("degrees"))


def amplification(series: Iterable[np.ndarray]) -> float:
    """By how much a queue multiplies what a server is slower by, from the logs of times in the
    order of sending, one series for each repeat of each arm; 1 where nobody waits.

    The autocorrelation of few requests is little known, so part of its standard error is added; and
    a queue of few requests has had no time to multiply by more than about the root of their number.
    """
    logs = [one for one in series if len(one) >= 2]
    if not logs:
        return 1.0
    count = float(np.mean([len(one) for one in logs]))
    seen = float(np.mean([_neighbours(one) for one in logs]))
    together = min(max(seen + UNSURE / math.sqrt(count), 0.0), 0.99)
    return min(1 / (1 - together), max(LONGEST * math.sqrt(count), 1.0))


def _neighbours(logs: np.ndarray) -> float:
    """Autocorrelation at lag 1."""
    centred = logs - logs.mean()
    variance = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / variance if variance > 0 else 0.0
