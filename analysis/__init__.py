"""Numbers, verdicts and reports from run directories. In a notebook: `aot.analysis.load(run)`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aot.analysis.tables import Tables


def load(run: Path | str) -> Tables:
    """The run in a folder as tidy data frames; columns and units: `aot.analysis.tables.Tables`.

    Raises aot.configs.kernel.errors.UsageError when it is no run directory.
    """
    from aot.analysis.tables import read

    return read(Path(run))
