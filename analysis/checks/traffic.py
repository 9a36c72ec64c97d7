"""Judge what was sent: as it was logged, as planned, and with clients that hang up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from aot.analysis.checks.finding import Finding
from aot.analysis.measures import logged
from aot.analysis.runs.run import ServerRun
from aot.workloads.requests.request import LEARNED_FROM


def replayed(run: ServerRun, summary: dict[str, Any]) -> Iterator[Finding]:
    """Of a log: everything that is sent otherwise than it was logged, and what it comes to."""
    changes = run.schedule.changes if run.schedule else {}
    if not changes and not any(r.body for r in (run.schedule.requests if run.schedule else ())):
        return
    sent = len(run.schedule.requests) if run.schedule else 0
    words = "; ".join(f"{what} ({count} requests)" for what, count in changes.items())
    detail = f"{sent} requests, but for: {words or 'nothing'}"
    yield Finding("ok", "replayed as it was logged", detail)
    yield from _other_prompts(summary)
    warmed = any(p.warmed for p in run.phases)
    if warmed and LEARNED_FROM not in changes:
        detail = "what was warmed was found in the very requests that were measured"
        yield Finding("warning", "static parts found elsewhere", detail)


def _other_prompts(summary: dict[str, Any]) -> Iterator[Finding]:
    """Replayed prompts that have another length than the log's own server counted."""
    for arm, numbers in summary["arms"].items():
        ratio = logged.differs(numbers["log"]) if numbers["log"] else None
        if ratio is not None:
            sums = numbers["log"]["prompt_tokens"]
            detail = (
                f"{arm}: {sums['replayed']:,} prompt tokens where the log's server counted "
                f"{sums['logged']:,} ({ratio:.2f} times): another tokenizer or chat template, or "
                "parts that are not in the log"
            )
            yield Finding("warning", "prompts as long as in the log", detail)
            return  # all arms send the same


def cancels(run: ServerRun, frame: pd.DataFrame, summary: dict[str, Any]) -> Iterator[Finding]:
    """Clients that hung up as planned are no failures; what they had counts nowhere."""
    check = "clients that hang up, as planned"
    planned = {r.id for r in run.schedule.requests if r.cancel_s} if run.schedule else set()
    others = set(frame.loc[frame["cancelled_s"].notna(), "id"]) - planned
    if others and run.schedule:
        detail = f"{', '.join(sorted(others)[:3])}: records of a hang-up that was not planned"
        yield Finding("void", check, detail)
    for arm, numbers in summary["arms"].items():
        if cancels := numbers["cancels"]:
            detail = (
                f"{arm}: {cancels['cancelled']} requests got no answer because their clients hung "
                f"up, and {cancels['retried']} were sent once more; times are of what was sent "
                "last, and the engine's hit ratio is of what was cancelled as well"
            )
            yield Finding("ok", check, detail)
