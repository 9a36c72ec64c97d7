"""Several runs side by side: what each measured, and how they differ over the same requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.analysis import report
from aot.analysis.inference import starts
from aot.analysis.inference.compare import Speedup, pair, speedup
from aot.analysis.inference.verdict import Verdict, judge
from aot.analysis.measures.metrics import QUANTILES
from aot.analysis.report import Evaluation
from aot.configs.kernel.errors import UsageError


@dataclass(frozen=True, slots=True)
class Row:
    """One arm of one server of one run. None where a number is not known."""

    run: str
    started_utc: str
    server: str
    engine: str
    model: str
    machine: str
    arm: str
    ok: int
    failed: int
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    tpot_p50_s: float | None
    requests_per_s: float | None
    hit_ratio: float | None
    schedule_sha256: str | None
    void: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """The first run against another one, over the requests that both answered."""

    runs: tuple[str, str]
    server: str
    arm: str
    metric: str
    quantile: str
    found: Speedup
    verdict: Verdict


def read(folders: Sequence[Path]) -> list[Evaluation]:
    """The runs in `folders`, in that order. Raises UsageError where one is none."""
    return [report.evaluate(folder) for folder in folders]


def rows(evaluation: Evaluation) -> list[Row]:
    """Every server and arm of a run."""
    manifest, table = evaluation.run.manifest, []
    for part in evaluation.parts:
        server = part.server
        machine = ", ".join(manifest["machine"].get("gpus") or [manifest["machine"]["cpu"]])
        for arm, numbers in part.numbers["arms"].items():
            table.append(
                Row(
                    evaluation.run.folder.name, manifest["started_utc"], server.name,
                    f"{server.facts['engine'] or 'unknown engine'} {server.version}".strip(),
                    str(server.facts["model"]), machine, arm,
                    numbers["requests"]["ok"], numbers["requests"]["failed"],
                    numbers["ttft_s"]["p50"], numbers["ttft_s"]["p99"], numbers["tpot_s"]["p50"],
                    numbers["throughput"]["requests_per_s"], numbers["cache"]["client_hit_ratio"],
                    evaluation.run.schedule_sha256, evaluation.void,
                )
            )  # fmt: skip
    return table


def insist_on_one_schedule(evaluations: Sequence[Evaluation], remedy: str) -> None:
    """UsageError where runs replayed different schedules: their requests are not the same."""
    shown = {e.run.folder.name: (e.run.schedule_sha256 or "unknown")[:12] for e in evaluations}
    if len(set(shown.values())) > 1 or "unknown" in shown.values():
        which = ", ".join(f"{name} {digest}" for name, digest in shown.items())
        raise UsageError(
            f"the runs replayed different schedules ({which}), so their requests do not pair; "
            f"{remedy}"
        )


def differences(
    first: Evaluation, second: Evaluation, metrics: Sequence[str] = ("ttft_s", "tpot_s", "e2e_s")
) -> list[Difference]:
    """`first` ÷ `second` for every arm that both have; above 1 the second is the faster one.
    Servers pair by name, or as they are where each run has one."""
    ratios = []
    for mine, its in _servers(first, second):
        allowed = starts.of_both(mine.facts, its.facts)
        for arm in [a for a in mine.arms if a in its.arms]:
            before, after = (
                e.frame[
                    e.frame["measured"] & (e.frame["server"] == s.name) & (e.frame["arm"] == arm)
                ]
                for e, s in ((first, mine), (second, its))
            )
            for metric in metrics:
                pairs = pair(before, after, metric)
                for quantile, q in QUANTILES.items():
                    ratio = speedup(pairs, q, allowed)
                    if ratio.ratio is not None:
                        names = (first.run.folder.name, second.run.folder.name)
                        ratios.append(
                            Difference(names, mine.name, arm, metric, quantile, ratio, judge(ratio))
                        )
    return ratios


def _servers(first: Evaluation, second: Evaluation) -> list[tuple[Any, Any]]:
    mine, its = first.run.servers, second.run.servers
    if len(mine) == len(its) == 1:
        return [(mine[0], its[0])]
    return [(m, i) for m in mine for i in its if m.name == i.name]
