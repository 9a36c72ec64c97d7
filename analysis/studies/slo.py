"""Limits that latencies must keep, as in ttft_p99=0.5, and whether a run kept them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from aot.analysis.checks import steady
from aot.analysis.measures.latency import LATENCY_QUANTILES, METRICS, LatencyQuantile
from aot.analysis.measures.metrics import QUANTILES
from aot.analysis.pages.formats import seconds
from aot.analysis.report import Evaluation
from aot.configs.kernel.errors import UsageError

EDGE = 1.25
"""A quantile within this factor of its limit is near the edge: one repeat does not settle it."""

REPEATS = 3
"""Of a rate near the edge; the majority decides."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`what` must be at most `most_s`."""

    what: LatencyQuantile
    most_s: float

    @property
    def words(self) -> str:
        return f"{self.what.words} ≤ {seconds(self.most_s)}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of one arm gave. `values`: by limit, None where nothing is known."""

    kept: bool
    values: tuple[float | None, ...]
    why: str
    """Why it was not kept; empty where it was."""
    near: bool
    """Near the edge: another repeat may say otherwise."""


def limit(text: str) -> Limit:
    """METRIC_QUANTILE=SECONDS. Raises UsageError for anything else."""
    name, _, number = text.strip().partition("=")
    what = LATENCY_QUANTILES.get(name)
    match = re.fullmatch(r"([0-9.]+(?:e-?\d+)?)s?", number)
    try:
        most_s = float(match[1]) if match else 0.0
    except ValueError:
        most_s = 0.0
    if what is None or not most_s > 0:
        raise UsageError(
            f"--slo {text}: expected METRIC_QUANTILE=SECONDS, as in ttft_p99=0.5 (metrics "
            f"{', '.join(METRICS)}; quantiles {', '.join(QUANTILES)})"
        )
    return Limit(what, most_s)


def check(evaluation: Evaluation, arm: str, limits: Sequence[Limit]) -> Outcome:
    """Whether `arm` kept every limit: all planned requests answered, no queue that grows, and each
    quantile at most its limit."""
    frame = evaluation.frame[(evaluation.frame["arm"] == arm) & evaluation.frame["measured"]]
    good = frame[frame["ok"]]
    values = tuple(
        float(np.quantile(known, x.what.share))
        if len(known := good[x.what.column].dropna())
        else None
        for x in limits
    )
    ratios = [v / x.most_s for v, x in zip(values, limits, strict=True) if v is not None]
    grown = [f.detail for f in steady.saturation(frame) if f.level == "warning"]
    beyond = [
        f"{x.words} not kept: {seconds(v)}"
        for x, v in zip(limits, values, strict=True)
        if v is None or v > x.most_s
    ]
    unanswered = ["not every request was answered"] if evaluation.unanswered else []
    why = [*unanswered, *beyond, *(["a queue that grows"] if grown else [])]
    near = not unanswered and bool(ratios) and 1 / EDGE <= max(ratios) <= EDGE
    return Outcome(not why, values, "; ".join(why), near)


def decided(outcomes: Sequence[Outcome]) -> Outcome | None:
    """What several repeats of one rate say: the first where it is not near the edge, else what
    most of `REPEATS` say. None while that is open."""
    if outcomes and not outcomes[0].near:
        return outcomes[0]
    for outcome in outcomes:
        if sum(o.kept == outcome.kept for o in outcomes) > REPEATS // 2:
            return outcome
    return None
