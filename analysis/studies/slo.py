"""Limits that latencies must keep, as in ttft_p99=0.5, and how many requests broke them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aot.analysis.checks.validity import ANSWERED
from aot.analysis.measures.latency import LATENCY_QUANTILES, METRICS, LatencyQuantile
from aot.analysis.measures.metrics import QUANTILES
from aot.analysis.pages.formats import seconds
from aot.analysis.report import Evaluation
from aot.analysis.studies.rate_search import Trial
from aot.configs.kernel.errors import UsageError

UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3}
LONG_S = 60.0
"""A limit from here on without a unit was most likely meant in milliseconds."""
WARM_UP = 0.2
"""Of a replay's requests: they meet a server that is still empty, as a later request never does.
At 80 % of capacity a queue forgets its beginning in some 30 requests."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`what` must be at most `most_s`."""

    what: LatencyQuantile
    most_s: float

    @property
    def words(self) -> str:
        return f"{self.what.words} ≤ {seconds(self.most_s)}"

    @property
    def allowed(self) -> float:
        """The share of requests that may be beyond it."""
        return round(1 - self.what.share, 6)  # 0.1, and not 0.0999…


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of one arm gave. `kept` and `trial` are None where the run is void: then nothing
    follows from it. `values`: by limit, after the warm-up; None where nothing is known."""

    kept: bool | None
    values: tuple[float | None, ...]
    why: str
    """Why it was not kept, or is void; empty where it was kept."""
    trial: Trial | None


def limit(text: str) -> Limit:
    """METRIC_QUANTILE=SECONDS, or with a unit: 0.5s, 500ms. Raises UsageError for anything else."""
    name, _, number = text.strip().partition("=")
    what = LATENCY_QUANTILES.get(name)
    match = re.fullmatch(r"([0-9.]+(?:e-?\d+)?)(ms|s|)", number)
    try:
        value = float(match[1]) if match else 0.0
    except ValueError:
        value = 0.0
    if what is None or match is None or not value > 0:
        raise UsageError(
            f"--slo {text}: expected METRIC_QUANTILE=SECONDS, as in ttft_p99=0.5 or "
            f"ttft_p99=500ms (metrics {', '.join(METRICS)}; quantiles {', '.join(QUANTILES)})"
        )
    if not match[2] and value >= LONG_S:
        raise UsageError(
            f"--slo {text}: that is {value:g} seconds; write {name}={value:g}ms, or "
            f"{name}={value:g}s if seconds are meant"
        )
    return Limit(what, value * UNITS[match[2]])


def check(evaluation: Evaluation, arm: str, limits: Sequence[Limit], rate_per_s: float) -> Outcome:
    """How the requests of `arm`, planned at `rate_per_s`, kept every limit after the warm-up. One
    that was not answered kept none."""
    planned = evaluation.frame[(evaluation.frame["arm"] == arm) & evaluation.frame["measured"]]
    counted = warm(planned)
    values = tuple(
        float(np.quantile(known, x.what.share))
        if len(known := counted.loc[counted["ok"], x.what.column].dropna())
        else None
        for x in limits
    )
    void = [f for f in evaluation.findings if f.level == "void" and f.check != ANSWERED]
    if void:
        return Outcome(None, values, f"{void[0].check}: {void[0].detail}", None)
    if counted.empty:
        return Outcome(None, values, "no request was recorded", None)
    beyond = tuple(int(_beyond(counted, x).sum()) for x in limits)
    trial = Trial(rate_per_s, beyond, len(counted))
    kept = trial.kept([x.allowed for x in limits])
    why = [
        f"{n / len(counted):.1%} beyond {x.words}"
        for n, x in zip(beyond, limits, strict=True)
        if n > x.allowed * len(counted)
    ]
    return Outcome(kept, values, "; ".join(why), trial)


def warm(frame: pd.DataFrame) -> pd.DataFrame:
    """The requests of one phase without those of its warm-up, in the order of their plan."""
    ordered = frame.sort_values("planned_s", kind="stable")
    return ordered.iloc[int(len(ordered) * WARM_UP) :]


def _beyond(frame: pd.DataFrame, x: Limit) -> pd.Series:
    """An answer of one token has no TPOT and keeps any limit of it."""
    return ~frame["ok"] | (frame[x.what.column] > x.most_s)
