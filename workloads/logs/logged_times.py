"""When a logged request was sent, and how long its answer took, whatever the log calls it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

STARTS = (
    "timestamp", "ts", "time", "startTime", "start_time", "startTimeUnixNano", "request_created_at",
    "created_at", "createdAt", "request_time", "at_s",
)  # fmt: skip
ENDS = ("endTime", "end_time", "endTimeUnixNano", "completed_at")
DURATIONS = {"duration_s": 1.0, "duration_ms": 1e-3, "latency_ms": 1e-3, "delay_ms": 1e-3}
LARGEST_S = 1e11
"""Seconds since 1970 are below; milli-, micro- and nanoseconds are above."""


def of(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Seconds, of an epoch of its own; and the duration. None: not logged. ValueError naming a
    field that is no time."""
    at_s = next((_seconds(row[k], k) for k in STARTS if row.get(k) is not None), None)
    for key, unit in DURATIONS.items():
        value = row.get(key)
        if type(value) in (int, float) and value >= 0:  # type: ignore[operator]
            return at_s, float(value) * unit  # type: ignore[arg-type]
    end_s = next((_seconds(row[k], k) for k in ENDS if row.get(k) is not None), None)
    if at_s is None or end_s is None or end_s < at_s:
        return at_s, None
    return at_s, end_s - at_s


def _seconds(value: Any, field: str) -> float:
    number = _number(value)
    if number is None and isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            moment = None
        if moment is not None:
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if number is None:
        raise ValueError(
            f"field '{field}' is {value!r:.60}, expected seconds, or a time such as "
            "2026-01-01T00:00:00Z"
        )
    while abs(number) > LARGEST_S:
        number /= 1000
    return number


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
