"""What every measuring command ends with: the report, and its words on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aot.configs.kernel.errors import ToolkitError
from aot.scripts.terminal import say, status

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
    say(evaluation.headline, style)
    for finding in evaluation.findings:
        if finding.level != "ok":
            say(f"{finding.level}: {finding.check}: {finding.detail}")
    say(f"report: {folder / 'report.html'}")
    return evaluation
