"""Read a study (a sweep, a capacity search, a tuning run): its points, each a run of its own.

points.csv and `read(folder).rows` have one row for each point, server and arm:

label, setting value, server, arm
requests, failed, void          answered, not answered, whether its report says not to use it
ttft_p50_s, _low, _high         median and its 95 % interval (analysis/inference/compare.py)
ttft_p90_s, ttft_p99_s, tpot_p50_s, e2e_p50_s, requests_per_s, output_tokens_per_s
hit_ratio, reachable, reachable_here      client; oracle without a limit, and at the capacity here
speedup, speedup_low, speedup_high, verdict     jit over this arm, median TTFT, paired; the interval
                                of the next run, which the verdict is of (None: no verdict, or void)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aot.analysis import report
from aot.analysis.inference.compare import level
from aot.analysis.inference.starts import ASSUMED, Starts, of_server
from aot.analysis.report import Evaluation
from aot.analysis.studies import limited
from aot.configs.kernel.errors import UsageError

FORMAT = "aot-study/1"


@dataclass(frozen=True, slots=True)
class Row:
    """One arm of one server at one point; the module says what each column means."""

    label: str
    value: Any
    server: str
    arm: str
    requests: int
    failed: int
    void: bool
    ttft_p50_s: float | None
    ttft_p50_low_s: float | None
    ttft_p50_high_s: float | None
    ttft_p90_s: float | None
    ttft_p99_s: float | None
    tpot_p50_s: float | None
    e2e_p50_s: float | None
    requests_per_s: float | None
    output_tokens_per_s: float | None
    hit_ratio: float | None
    reachable: float | None
    reachable_here: float | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Point:
    """One setting; `made` is None where nothing of it was measured yet."""

    label: str
    changes: dict[str, Any]
    folder: Path
    evaluation: Evaluation | None


@dataclass(frozen=True, slots=True)
class StudyRun:
    """A study as far as it is there."""

    folder: Path
    facts: dict[str, Any]
    points: list[Point]
    rows: list[Row]

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a data frame."""
        names = list(Row.__dataclass_fields__)
        return pd.DataFrame([asdict(r) for r in self.rows], columns=names)

    @property
    def starts(self) -> Starts:
        """How starts of the server differ, as the first point knows it."""
        evaluation = next((p.evaluation for p in self.points if p.evaluation), None)
        return of_server(evaluation.parts[0].server.facts) if evaluation else ASSUMED

    @property
    def missing(self) -> list[str]:
        """Labels of points that were not measured, or not to the end."""
        failed = self.facts["options"].get("failed", {})
        unfinished = [
            p.label for p in self.points if p.evaluation is None or _unfinished(p.evaluation)
        ]
        return [label for label in unfinished if label not in failed]


def read(
    folder: Path, *, write_points: bool = False, tell: Callable[[str], None] = lambda _: None
) -> StudyRun:
    """The study in `folder`; `write_points` makes each point's own report as well, and `tell` is
    told which one.

    Raises UsageError where there is none.
    """
    try:
        facts = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        at = folder / "points"
        planned = [(p["label"], p["changes"], at / p["folder"]) for p in facts["points"]]
        setting = facts["options"].get("setting", "")
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{folder}: no study (no readable study.json)") from None
    if facts.get("format") != FORMAT:
        raise UsageError(f"{folder}/study.json: format {facts.get('format')!r} is not known here")
    points = []
    for name, changes, here in planned:
        tell(f"reading {name}")
        points.append(Point(name, changes, here, _evaluation(here, write_points)))
    return StudyRun(folder, facts, points, [row for p in points for row in rows(p, setting)])


def _evaluation(folder: Path, write_points: bool) -> Evaluation | None:
    if not (folder / "phases").is_dir():
        return None
    return report.write(folder) if write_points else report.evaluate(folder)


def _unfinished(evaluation: Evaluation) -> bool:
    done = {p.name for s in evaluation.run.servers for p in s.phases if p.complete}
    return not {p["folder"] for p in evaluation.run.manifest["phases"]} <= done


def rows(point: Point, setting: str) -> Iterator[Row]:
    """One for each server and arm of a point; `setting`: the full name of what is swept."""
    evaluation = point.evaluation
    if evaluation is None:
        return
    for part in evaluation.parts:
        frame = evaluation.frame[
            (evaluation.frame["server"] == part.server.name) & evaluation.frame["measured"]
        ]
        faster = {
            r["after"]: r
            for r in part.numbers["comparison"]["ratios"]
            if (r["before"], r["metric"], r["quantile"]) == ("jit", "ttft_s", "p50")
        }
        void = any(f.level == "void" for f in part.findings)
        for arm, numbers in part.numbers["arms"].items():
            median = level(frame[frame["arm"] == arm], "ttft_s")
            ratio = faster.get(arm, {})
            cache, throughput = numbers["cache"], numbers["throughput"]
            low, high = median.ci95 or (None, None)
            sure = ratio.get("next_ci95") or (None, None)
            yield Row(
                label=point.label,
                value=point.changes.get(setting),
                server=part.server.name,
                arm=arm,
                requests=numbers["requests"]["ok"],
                failed=numbers["requests"]["failed"],
                void=void,
                ttft_p50_s=median.value,
                ttft_p50_low_s=low,
                ttft_p50_high_s=high,
                ttft_p90_s=numbers["ttft_s"]["p90"],
                ttft_p99_s=numbers["ttft_s"]["p99"],
                tpot_p50_s=numbers["tpot_s"]["p50"],
                e2e_p50_s=numbers["e2e_s"]["p50"],
                requests_per_s=throughput["requests_per_s"],
                output_tokens_per_s=throughput["output_tokens_per_s"],
                hit_ratio=cache["client_hit_ratio"],
                reachable=cache["expected_hit_ratio"],
                reachable_here=limited.hit_ratio(part.server, part.server.of_arm(arm)),
                speedup=ratio.get("ratio"),
                speedup_low=sure[0],
                speedup_high=sure[1],
                verdict=None if void else ratio.get("verdict"),
            )
