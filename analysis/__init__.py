"""Numbers, verdicts and reports from run directories. In a notebook: `analysis.load(run)`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.tables import Tables


def load(run: Path | str) -> Tables:
    """The run in a folder as tidy data frames; columns and units: `analysis.tables.Tables`.

    Raises configs.errors.UsageError when it is no run directory.
    """
    from analysis.tables import read  # pandas takes a second, which only who needs it should wait

    return read(Path(run))
