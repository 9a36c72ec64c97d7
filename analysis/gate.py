"""Has a run become worse than its baseline by more than is allowed? For CI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aot.analysis import across
from aot.analysis.inference.compare import pair, speedup
from aot.analysis.measures.latency import LATENCY_QUANTILES
from aot.analysis.report import Evaluation
from aot.configs.kernel.errors import UsageError

RATES = ("requests_per_s", "output_tokens_per_s", "hit_ratio")
"""More is better; one number a run, so there is no interval."""

Outcome = Literal["pass", "regression", "not settled"]


@dataclass(frozen=True, slots=True)
class Limit:
    """How much worse a metric may be, as a share: 0.05 is 5 %."""

    metric: str
    share: float


@dataclass(frozen=True, slots=True)
class Judged:
    """One limit, held against two runs. `worse`: by what share the run is worse (negative: better);
    None where it cannot be told."""

    limit: Limit
    arm: str
    baseline: float | None
    now: float | None
    worse: float | None
    worse_ci95: tuple[float, float] | None
    outcome: Outcome


def limit(text: str) -> Limit:
    """From "ttft_p50=5%". Raises UsageError."""
    match = re.fullmatch(r"(\w+)=(\d+(?:\.\d+)?)%", text.strip())
    if not match:
        raise UsageError(f"--max-regression {text!r}: write METRIC=PERCENT%, as in ttft_p50=5%")
    if match[1] not in (*LATENCY_QUANTILES, *RATES):
        known = ", ".join((*LATENCY_QUANTILES, *RATES))
        raise UsageError(f"--max-regression {match[1]}: not a metric; there are {known}")
    return Limit(match[1], float(match[2]) / 100)


def judge(run: Evaluation, baseline: Evaluation, limits: Sequence[Limit], arm: str) -> list[Judged]:
    """Every limit, for one arm. Regression: worse than allowed, and the whole 95 % interval is
    worse than the baseline. Not settled: worse than allowed, but the interval includes no
    difference, or there are too few pairs for one.

    Raises UsageError for runs that cannot be compared.
    """
    for which, evaluation in (("run", run), ("baseline", baseline)):
        if evaluation.void:
            raise UsageError(
                f"{evaluation.run.folder}: the {which} is void, so nothing follows from it"
            )
        if len(evaluation.run.servers) != 1:
            raise UsageError(
                f"{evaluation.run.folder}: has several servers; a gate takes runs of one"
            )
        if arm not in evaluation.run.servers[0].arms:
            have = ", ".join(evaluation.run.servers[0].arms) or "none"
            raise UsageError(f"{evaluation.run.folder}: no arm '{arm}' (arms with data: {have})")
    across.insist_on_one_schedule([run, baseline], "measure both with the same workload file")
    return [
        _rate(run, baseline, x, arm) if x.metric in RATES else _latency(run, baseline, x, arm)
        for x in limits
    ]


def _latency(run: Evaluation, baseline: Evaluation, limit: Limit, arm: str) -> Judged:
    what = LATENCY_QUANTILES[limit.metric]
    now, then = (m.frame[m.frame["measured"] & (m.frame["arm"] == arm)] for m in (run, baseline))
    slowdown = speedup(pair(now, then, what.column), what.share)
    if slowdown.ratio is None:
        return Judged(limit, arm, None, None, None, None, "not settled")
    worse = slowdown.ratio - 1
    interval = (slowdown.ci95[0] - 1, slowdown.ci95[1] - 1) if slowdown.ci95 else None
    outcome: Outcome = "pass"
    if worse > limit.share:
        outcome = "regression" if interval and interval[0] > 0 else "not settled"
    return Judged(limit, arm, slowdown.after, slowdown.before, worse, interval, outcome)


def _rate(run: Evaluation, baseline: Evaluation, limit: Limit, arm: str) -> Judged:
    now, then = (_rate_of(m, limit.metric, arm) for m in (run, baseline))
    if now is None or not then:
        return Judged(limit, arm, then, now, None, None, "not settled")
    worse = 1 - now / then
    outcome: Outcome = "regression" if worse > limit.share else "pass"
    return Judged(limit, arm, then, now, worse, None, outcome)


def _rate_of(evaluation: Evaluation, metric: str, arm: str) -> float | None:
    numbers = evaluation.parts[0].numbers["arms"][arm]
    value = (
        numbers["cache"]["client_hit_ratio"]
        if metric == "hit_ratio"
        else numbers["throughput"][metric]
    )
    return None if value is None else float(value)
