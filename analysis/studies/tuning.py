"""What a tuning run found: every setting against the server file as it is, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from aot.analysis import report
from aot.analysis.inference.compare import Speedup, pair, speedup
from aot.analysis.inference.starts import of_both
from aot.analysis.inference.verdict import judge
from aot.analysis.measures.latency import LATENCY_QUANTILES, LatencyQuantile
from aot.analysis.pages.formats import seconds
from aot.analysis.report import Evaluation
from aot.analysis.studies import study, study_page
from aot.analysis.studies.study import StudyRun
from aot.analysis.studies.study_page import Block, Page, Table
from aot.configs.kernel.errors import UsageError

BASELINE, BEST_AGAIN, BASELINE_AGAIN = "as it is", "best, again", "as it is, again"


def objective(text: str) -> LatencyQuantile:
    """From ttft_p50. Raises UsageError."""
    if text not in LATENCY_QUANTILES:
        raise UsageError(f"--objective {text}: is none of {', '.join(LATENCY_QUANTILES)}")
    return LATENCY_QUANTILES[text]


def gain(before: Evaluation, after: Evaluation, what: LatencyQuantile) -> Speedup:
    """The objective in one run over that in another, the same requests of the aot arm paired."""
    then, now = (e.frame[e.frame["measured"] & (e.frame["arm"] == "aot")] for e in (before, after))
    known = of_both(*(e.parts[0].server.facts for e in (before, after)))
    return speedup(pair(then, now, what.column), what.share, known)


def is_better(gained: Speedup) -> bool:
    """Shown to be better, for the next start of the server as well."""
    return judge(gained).kind == "effect" and (gained.ratio or 0) > 1


def of_folder(folder: Path, tell: Callable[[str], None] = lambda _: None) -> tuple[StudyRun, Page]:
    """Read the tuning run in `folder` with its points' own reports, and write its page."""
    read = study.read(folder, write_points=True, tell=tell)
    contents = page(read)
    study_page.write(read, contents)
    return read, contents


def page(read: StudyRun) -> Page:
    options = read.facts["options"]
    what = objective(options["objective"])
    evaluations = {p.label: p.evaluation for p in read.points if p.evaluation}
    headline, change = _recommended(read, evaluations, what)
    warnings = [f"{label} was left out: {why}" for label, why in options["failed"].items()]
    return Page(
        title=f"cache settings of {Path(options['server']).name}",
        headlines=[headline, *_floor(evaluations)],
        warnings=warnings,
        tables=[_table(read, evaluations, what)],
        figures=[],
        method=[
            "The aot arm only, one setting after the other, each value measured on the same "
            f"requests as the file as it is and compared by {what.words} (paired, 95 % interval "
            f"of the next run; {read.starts.words}). A value is kept where its whole interval is "
            "on the better side of what was best before; the next setting starts from there.",
            "In the end the best settings and the file as it is are measured once more. A "
            "recommendation is made only where this second comparison shows an effect as well.",
            "The floor is the dynamic suffix alone, one request at a time (every report has it).",
        ],
        blocks=[Block(f"What to change in {Path(options['server']).name}", change)]
        if change
        else [],
    )


def _recommended(
    read: StudyRun, evaluations: Mapping[str, Evaluation | None], what: LatencyQuantile
) -> tuple[str, str]:
    """The sentence at the top, and the keys to change; empty where there is nothing to change."""
    best, again = evaluations.get(BEST_AGAIN), evaluations.get(BASELINE_AGAIN)
    void = [label for label, e in evaluations.items() if e and e.void]
    if {BASELINE, BEST_AGAIN, BASELINE_AGAIN} & set(void):
        return f"Nothing can be recommended: void are {', '.join(void)}; see their reports.", ""
    if not best or not again:
        if read.missing or BASELINE not in evaluations:
            return "Not finished: nothing can be recommended yet.", ""
        return "Keep the server file as it is: no setting that was tried is shown to be better.", ""
    gained = gain(again, best, what)
    changes = next(p.changes for p in read.points if p.label == BEST_AGAIN)
    text = yaml.safe_dump(keys(changes), sort_keys=False)
    words = ", ".join(line for line in text.splitlines() if line)
    if not is_better(gained):
        return (
            f"Keep the server file as it is: {words} looked better at first, but measured again "
            f"it was not shown to be ({_ratio(gained)})."
        ), ""
    return (
        f"Set {words}: {what.words} {seconds(gained.after)} instead of {seconds(gained.before)}, "
        f"{_ratio(gained)}, measured a second time for confirmation."
    ), text


def keys(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes of a point as a server file has them."""
    return {k.removeprefix("server."): v for k, v in changes.items() if k.startswith("server.")}


def _floor(evaluations: Mapping[str, Evaluation | None]) -> list[str]:
    lines = []
    for label in (BASELINE, BEST_AGAIN):
        evaluation = evaluations.get(label)
        floor = _distance(None if evaluation and evaluation.void else evaluation)
        if floor and floor["ratio"]:
            lines.append(
                f"{label}: {floor['ratio']:.2f} times the floor, {seconds(floor['with_prefix_s'])} "
                f"where the suffix alone takes {seconds(floor['suffix_alone_s'])}"
            )
    return lines


def _distance(evaluation: report.Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    arms: dict[str, Any] = evaluation.summary.get("arms", {})
    floor: dict[str, Any] | None = arms.get("aot", {}).get("floor")
    return floor


def _table(
    read: StudyRun, evaluations: Mapping[str, Evaluation | None], what: LatencyQuantile
) -> Table:
    rows, first = [], evaluations.get(BASELINE)
    for point in read.points:
        if (
            point.evaluation is None
            or first is None
            or "aot" not in point.evaluation.summary["arms"]
        ):
            continue
        gained, arm = gain(first, point.evaluation, what), point.evaluation.summary["arms"]["aot"]
        floor = _distance(point.evaluation)
        hits = arm["cache"]["client_hit_ratio"]
        verdict: str = "–" if point.label == BASELINE else judge(gained).kind
        if point.evaluation.void or first.void:
            verdict = "void: not counted"
        rows.append([
            point.label, ", ".join(f"{k}={v}" for k, v in keys(point.changes).items()) or "–",
            seconds(gained.after), _ratio(gained), verdict,
            "–" if hits is None else f"{hits:.3f}",
            f"{floor['ratio']:.2f}×" if floor and floor["ratio"] else "–",
        ])  # fmt: skip
    columns = ["tried", "settings", what.words, "as it is ÷ this", "verdict", "hit ratio",
               "times the floor"]  # fmt: skip
    return Table("Tried", columns, rows, "Above 1 is better than the server file as it is.")


def _ratio(gained: Speedup) -> str:
    if gained.ratio is None:
        return "unknown"
    interval = gained.next_ci95
    sure = f" (95 % interval {interval[0]:.2f}–{interval[1]:.2f})" if interval else ""
    return f"{gained.ratio:.2f}×{sure}"
