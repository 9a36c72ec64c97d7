"""A study as a page: report.html, report.md, points.csv and figures/ in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aot.analysis.pages.advice import FEW_FOR_TAILS
from aot.analysis.pages.figures import Figure
from aot.analysis.pages.formats import number, seconds
from aot.analysis.report import embedded, environment, replaced
from aot.analysis.studies.study import Row, StudyRun


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows of text, with what to see in them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


@dataclass(frozen=True, slots=True)
class Block:
    """Text to copy: a file, a command."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """What one kind of study says; the rest is the same for all."""

    title: str
    headlines: Sequence[str]
    warnings: Sequence[str]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    method: Sequence[str]
    blocks: Sequence[Block] = field(default=())


def write(study: StudyRun, page: Page) -> None:
    """report.html, report.md and points.csv; the figures are there already."""
    folder = study.folder
    replaced(folder / "points.csv", lambda p: study.frame.to_csv(p, index=False))
    context = {
        "facts": study.facts,
        "about": about(study),
        "points": study.points,
        "voided": voided(study),
        "images": {f.file: embedded(folder / "figures" / f.file) for f in page.figures},
        **{name: getattr(page, name) for name in Page.__dataclass_fields__},
        "warnings": [*missing(study), *page.warnings],
    }
    for name, source in (("report.html", "study.html"), ("report.md", "study.md")):
        text = environment(name).get_template(f"{source}.jinja2").render(context)
        replaced(folder / name, lambda p, t=text: p.write_text(t, encoding="utf-8"))


def about(study: StudyRun) -> str:
    """Engine, model and machine, where a point says them."""
    evaluation = next((p.evaluation for p in study.points if p.evaluation), None)
    if evaluation is None:
        return "nothing measured"
    servers = [
        f"{p.server.facts['engine']} {p.server.version} · {p.server.facts['model']}"
        for p in evaluation.parts
    ]
    return " · ".join([*servers, str(evaluation.run.manifest["machine"]["cpu"])])


def voided(study: StudyRun) -> list[str]:
    return [
        f"{p.label}: {f.check}: {f.detail}"
        for p in study.points
        for f in (p.evaluation.findings if p.evaluation else ())
        if f.level == "void"
    ]


def missing(study: StudyRun) -> list[str]:
    left = study.missing
    return [f"not measured, or not to the end: {', '.join(left)}"] if left else []


def numbers(rows: Sequence[Row]) -> Table:
    """Every point and arm in one table."""
    return Table(
        "Measured",
        ("point", "server", "arm", "requests", "failed", "TTFT p50", "95 % interval", "TTFT p99",
         "TPOT p50", "req/s", "hit ratio", "jit ÷ arm", "95 % interval", "verdict"),
        [_cells(row) for row in rows],
        "TTFT p50 with its 95 % interval; hit ratio as the answers' usage blocks say; the ratio is "
        "of median TTFT over the same requests. A click on a heading sorts.",
    )  # fmt: skip


def _cells(row: Row) -> list[str]:
    return [
        row.label, row.server, row.arm, f"{row.requests}", f"{row.failed}",
        seconds(row.ttft_p50_s), _range(row.ttft_p50_low_s, row.ttft_p50_high_s, seconds),
        seconds(row.ttft_p99_s) if row.requests >= FEW_FOR_TAILS else "too few",
        seconds(row.tpot_p50_s), number(row.requests_per_s),
        "–" if row.hit_ratio is None else f"{row.hit_ratio:.3f}",
        "–" if row.speedup is None else f"{row.speedup:.2f}×",
        _range(row.speedup_low, row.speedup_high, lambda v: f"{v:.2f}"), row.verdict or "–",
    ]  # fmt: skip


def _range(low: float | None, high: float | None, text: Any) -> str:
    return "–" if low is None or high is None else f"{text(low)} to {text(high)}"
