"""Whether every replica behind a router, and the store beside them, was there until the end."""

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
    yield from _store(run)
    if any(p.replicas for p in run.phases) and not any(numbers for _, numbers in died):
        yield Finding("ok", "every replica alive", "until the end of every phase")


def _store(run: ServerRun) -> Iterator[Finding]:
    """An engine goes on without its store: nothing is wrong but that what it kept is not found."""
    check = "the store answered"
    lost = [p.name for p in run.phases if p.store_alive is False]
    if lost:
        yield Finding("void", check, f"not at the end of {', '.join(lost)}: see server-store.log")
    if unwritten := {p.name: p.store_lost_writes for p in run.phases if p.store_lost_writes}:
        words = ", ".join(f"{count} in {name}" for name, count in unwritten.items())
        detail = f"chunks its disk did not take: {words}; is it full? A restart loses them"
        yield Finding("warning", "the store kept all", detail)
    yield from _store_counters(run)
    if not lost and any(p.store_alive for p in run.phases):
        yield Finding("ok", check, "until the end of every phase")


def _store_counters(run: ServerRun) -> Iterator[Finding]:
    """What the store could not give, and whether it says the same as the engine."""
    counted = {p.name: (p.counters, p.store_counters) for p in run.phases}
    failed = {n: int(s.failed_chunks) for n, (_, s) in counted.items() if s and s.failed_chunks}
    if failed:
        words = ", ".join(f"{count} in {name}" for name, count in failed.items())
        detail = f"chunks it had no memory for, or that were gone: {words}; see memory_gib"
        yield Finding("warning", "the store gave all", detail)
    for name, (engine, store) in counted.items():
        if engine is None or store is None or engine.store_tokens is None:
            continue
        found = store.memory_tokens + store.disk_tokens
        if engine.store_tokens > found:
            detail = (
                f"{name}: the engine had {engine.store_tokens:,.0f} tokens from it, of {found:,.0f}"
            )
            yield Finding("warning", "store and engine agree", f"{detail} that it says it found")
