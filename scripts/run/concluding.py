"""What every measuring command ends with: the report, and its words on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aot.configs.kernel.errors import ToolkitError
from aot.scripts.terminal import say, status, table

if TYPE_CHECKING:
    from aot.analysis.report import Evaluation


def conclude(folder: Path) -> None:
    """Report what was measured just now; requests without an answer are a failure of it."""
    if write_report(folder).unanswered:
        raise ToolkitError(f"not every request was answered, see {folder}/report.md")


def write_report(folder: Path, exports: Sequence[str] = ()) -> Evaluation:
    from aot.analysis.report import write

    with status("writing the report"):
        evaluation = write(folder, exports)
    style = "bold red" if evaluation.void else "bold"
    for line in evaluation.summary["headlines"]:
        say(line, style)
    for finding in evaluation.findings:
        if finding.level != "ok":
            say(f"{finding.level}: {finding.check}: {finding.detail}")
    for part in evaluation.parts:
        _arms(part.server.name if len(evaluation.parts) > 1 else "", part.numbers["arms"])
    say(f"report: {folder / 'report.html'}")
    return evaluation


def _arms(server: str, arms: dict[str, Any]) -> None:
    """The arms of one server side by side."""
    from aot.analysis.pages.formats import number, seconds

    def share(value: float | None) -> str:
        return "not reported" if value is None else f"{value:.1%}"

    if not arms:
        return
    say("")
    right = ("answered", "TTFT p50", "TPOT p50", "E2E p50", "req/s", "hit ratio")
    rows = [
        (
            arm,
            str(its["requests"]["ok"]),
            *(seconds(its[metric]["p50"]) for metric in ("ttft_s", "tpot_s", "e2e_s")),
            number(its["throughput"]["requests_per_s"]),
            share(its["cache"]["client_hit_ratio"]),
        )
        for arm, its in arms.items()
    ]
    table((server or "arm", *right), rows, right=right)
