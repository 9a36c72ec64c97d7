"""Has a run become worse than its baseline by more than is allowed? For CI.

pass          the whole interval is within what is allowed
regression    worse than allowed, and the whole interval is worse than the baseline
not settled   anything else: more repeats would tell

Intervals are of the next run (analysis/inference/compare.py). A hit ratio is a count over the same
requests, which starts of a server do not change, and has none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from aot.analysis import across
from aot.analysis.inference import starts
from aot.analysis.inference.compare import over_repeats, pair, speedup
from aot.analysis.inference.starts import Starts
from aot.analysis.measures.latency import LATENCY_QUANTILES
from aot.analysis.report import Evaluation
from aot.analysis.summary import throughput
from aot.configs.kernel.errors import UsageError

RATES = ("requests_per_s", "output_tokens_per_s", "hit_ratio")
"""More is better."""

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
    """Every limit, for one arm.

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
    slowdown = speedup(pair(now, then, what.column), what.share, _starts(run, baseline))
    if slowdown.ratio is None:
        return Judged(limit, arm, None, None, None, None, "not settled")
    interval = slowdown.next_ci95
    worse_ci95 = (interval[0] - 1, interval[1] - 1) if interval else None
    return _judged(limit, arm, slowdown.after, slowdown.before, slowdown.ratio - 1, worse_ci95)


def _judged(
    limit: Limit, arm: str, baseline: float | None, now: float | None, worse: float,
    interval: tuple[float, float] | None,
) -> Judged:  # fmt: skip
    outcome: Outcome = "not settled"
    if interval and interval[1] <= limit.share:
        outcome = "pass"
    elif interval and worse > limit.share and interval[0] > 0:
        outcome = "regression"
    return Judged(limit, arm, baseline, now, worse, interval, outcome)


def _starts(run: Evaluation, baseline: Evaluation) -> Starts:
    return starts.of_both(*(e.parts[0].server.facts for e in (run, baseline)))


def _rate(run: Evaluation, baseline: Evaluation, limit: Limit, arm: str) -> Judged:
    if limit.metric == "hit_ratio":
        now, then = (_hit_ratio(m, arm) for m in (run, baseline))
        if now is None or then is None:
            return Judged(limit, arm, then, now, None, None, "not settled")
        worse = 1 - now / then if then else 0.0  # nothing to lose
        return _judged(limit, arm, then, now, worse, (worse, worse))
    rates = _rates(run, baseline, limit.metric, arm)
    if rates.empty:
        return Judged(limit, arm, None, None, None, None, "not settled")
    allowed = _starts(run, baseline).half_width(1.0, len(rates))
    kept = over_repeats(rates.to_numpy(dtype=float), len(rates), allowed)  # now ÷ then
    assert kept.ratio is not None
    assert kept.next_ci95 is not None
    low, high = kept.next_ci95
    return _judged(limit, arm, kept.after, kept.before, 1 - kept.ratio, (1 - high, 1 - low))


def _rates(run: Evaluation, baseline: Evaluation, metric: str, arm: str) -> pd.DataFrame:
    """`metric` of each repeat that both have: columns now and then."""
    known = []
    for evaluation in (run, baseline):
        frame = evaluation.frame[evaluation.frame["arm"] == arm]
        rates = {r: throughput(rows)[metric] for r, rows in frame.groupby("repeat")}
        known.append(pd.Series(rates, dtype=float))
    both = pd.DataFrame({"now": known[0], "then": known[1]}).dropna()
    return both[(both > 0).all(axis=1)]


def _hit_ratio(evaluation: Evaluation, arm: str) -> float | None:
    value = evaluation.parts[0].numbers["arms"][arm]["cache"]["client_hit_ratio"]
    return None if value is None else float(value)
