"""A sweep as a page: curves, what was measured, and where caching begins to pay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aot.analysis.pages.figures import Figure
from aot.analysis.pages.formats import seconds
from aot.analysis.studies import break_even, curves, study, study_page
from aot.analysis.studies.study import Row, StudyRun
from aot.analysis.studies.study_page import Page

UNITS = {
    "static_tokens": "static tokens",
    "dynamic_tokens": "dynamic tokens",
    "rate": "planned requests / s",
    "tenants": "static prefixes",
    "users": "users",
    "block_size": "tokens of a KV block",
    "cache_size": "tokens of KV cache",
}


def write(study_run: StudyRun) -> Page:
    """Draw the curves of a sweep and write its page."""
    short = study_run.facts["options"]["short"]
    drawn = curves.draw_all(study_run.frame, UNITS.get(short, short), study_run.folder / "figures")
    contents = page(study_run, short, drawn)
    study_page.write(study_run, contents)
    return contents


def page(study_run: StudyRun, short: str, drawn: list[Figure]) -> Page:
    rows = study_run.rows
    lines = [_span(rows, arm) for arm in ("aot", "auto")]
    break_evens = break_even.find(rows) if short == "static_tokens" else []
    several = len({r.server for r in rows}) > 1
    lines += [f"{b.server}: {b.words}" if several else b.words for b in break_evens]
    return Page(
        title=f"sweep over {short}",
        headlines=[line for line in lines if line],
        warnings=_warnings(study_run),
        tables=[study_page.numbers(rows)],
        figures=drawn,
        method=[
            "A server is started once for each arm and each setting that needs a start; every "
            "point starts with an empty cache (proved by a canary prompt), by a fresh cache salt "
            "or as the experiment's cache_reset says. Every second repeat goes through arms and "
            "points in reverse order.",
            "Bands are 95 % intervals: of requests with one repeat, of repeats with several.",
            "The oracle replays the prompts in the order of sending through LRU in whole blocks; "
            "requests in flight at the same time and generated tokens are not modelled.",
        ],
    )


def _span(rows: list[Row], arm: str) -> str | None:
    """Over which settings the arm has an effect, in one sentence."""
    known = [r for r in rows if r.arm == arm and r.speedup is not None and not r.void]
    if not known:
        return None
    least, most = (f(known, key=lambda r: r.speedup or 0) for f in (min, max))
    if least is most:
        return f"{arm}: {_at(most)}"
    return f"{arm}: from {_at(least)} to {_at(most)}"


def _at(row: Row) -> str:
    sure = "" if row.verdict == "effect" else f" ({row.verdict or 'too few pairs to tell'})"
    return f"{row.speedup:.2f}× at {row.label} (median TTFT {seconds(row.ttft_p50_s)}){sure}"


def _warnings(study_run: StudyRun) -> list[str]:
    """Warnings of the points, each with the points that have it."""
    by_words: dict[str, list[str]] = {}
    for point in study_run.points:
        for finding in point.evaluation.findings if point.evaluation else ():
            if finding.level == "warning":
                by_words.setdefault(finding.check, []).append(point.label)
    evaluation = next((p.evaluation for p in study_run.points if p.evaluation), None)
    two = (
        evaluation is not None and evaluation.run.manifest["configs"]["experiment"]["repeats"] == 2
    )
    spread = (
        "two repeats: intervals reach 12.7 standard errors to either side (Student's t with one "
        "degree of freedom); with three repeats it is 4.3"
    )
    return ([spread] if two else []) + [
        f"{check}: see the report of {', '.join(dict.fromkeys(labels))}"
        for check, labels in by_words.items()
    ]


def of_folder(folder: Path, tell: Callable[[str], None] = lambda _: None) -> tuple[StudyRun, Page]:
    """Read the sweep in `folder` with its points' own reports, and write its page."""
    read = study.read(folder, write_points=True, tell=tell)
    return read, write(read)
