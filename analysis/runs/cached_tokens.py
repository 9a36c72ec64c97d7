"""Cached tokens that a server did not report: unknown, or none?

vLLM (before one fix) and SGLang leave the field out where nothing was cached. A server that has
shown it once has it: where it leaves it out then, nothing was cached. One that never shows it may
not report it at all.
"""

from __future__ import annotations

from dataclasses import replace

from aot.analysis.runs.phases import Phase


def known(phases: list[Phase]) -> tuple[list[Phase], int]:
    """The phases of one server, with a 0 where it was left out, and how often it was."""
    if not any(_is_shown(phase) for phase in phases):
        return phases, 0
    filled, count = [], 0
    for phase in phases:
        frame = phase.records
        # Where the prompt tokens were counted, too: else there was no usage at all.
        silent = frame["cached_tokens"].isna() & frame["prompt_tokens"].notna()
        if silent.any():
            count += int(silent.sum())
            cached = frame["cached_tokens"].mask(silent, 0.0)
            phase = replace(phase, records=frame.assign(cached_tokens=cached))
        filled.append(phase)
    return filled, count


def _is_shown(phase: Phase) -> bool:
    """Whether any answer of the replay has them. Those of warming and proving are not streamed, and
    something on the way may pass the count on in these alone."""
    return bool(phase.records["cached_tokens"].notna().any())
