"""Whether every replica behind a router was there until the end."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from aot.analysis.checks.finding import Finding
from aot.analysis.runs.run import ServerRun


def check(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
    """Whether every replica was there until the end, and what was lost with one that was not."""
    died = [(p, [n for n, r in enumerate(p.replicas) if r.alive is False]) for p in run.phases]
    for phase, numbers in died:
        if numbers:
            mine = frame[(frame["arm"] == phase.arm) & (frame["repeat"] == phase.repeat)]
            failed = int((~mine["ok"]).sum())
            names = ", ".join(map(str, numbers))
            detail = f"replica {names} died during {phase.name}; {failed} of {len(mine)} requests"
            yield Finding("warning", "every replica alive", f"{detail} failed in that phase")
    if any(p.replicas for p in run.phases) and not any(numbers for _, numbers in died):
        yield Finding("ok", "every replica alive", "until the end of every phase")
