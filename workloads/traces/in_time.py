"""Requests of a trace in the order in which a server would get them: by time, turn after turn.

A turn is sent when the one before was answered and its think time is over. How long an answer takes
is the log's own duration, or what a service-time model says.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from aot.workloads.logs.traced import Traced

CHARACTERS_PER_TOKEN = 4
"""Of English text with the usual tokenizers."""


@dataclass(frozen=True, slots=True)
class Service:
    """Seconds of an answer: `fixed_s`, and per token of prompt and of output."""

    fixed_s: float = 0.0
    s_per_prompt_token: float = 1 / 4_000
    s_per_output_token: float = 1 / 50

    def of(self, traced: Traced) -> float:
        prompt, output = _prompt_tokens(traced), traced.output_tokens or 0
        return self.fixed_s + prompt * self.s_per_prompt_token + output * self.s_per_output_token


def _prompt_tokens(traced: Traced) -> int:
    """As the trace or the server of the log counted them; else by the length of the texts."""
    if traced.input_tokens is not None:
        return traced.input_tokens
    if traced.served and traced.served.prompt_tokens is not None:
        return traced.served.prompt_tokens
    return sum(len(str(m.get("content"))) for m in traced.messages) // CHARACTERS_PER_TOKEN


USUAL = Service()
"""What is assumed where nothing is known: 4,000 prompt tokens and 50 output tokens a second."""


def in_time(requests: Iterable[Traced], service: Service | None) -> list[Traced]:
    """The same with `at_s` when each is sent and `duration_s` of its answer, in order of time;
    requests without times stay in the order of the file. `service` None: durations as logged, else
    USUAL."""
    rows = list(requests)
    if any(r.at_s is None for r in rows):
        return rows
    rows.sort(key=lambda r: r.at_s or 0.0)  # some tools export the newest first
    waiting: dict[str, list[tuple[int, Traced]]] = {}
    heap: list[tuple[float, int]] = []
    first_of: set[str] = set()
    for number, row in enumerate(rows):
        before = row.parent or row.session
        if before is not None and before in first_of:
            waiting.setdefault(before, []).append((number, row))
        else:
            heapq.heappush(heap, (row.at_s or 0.0, number))
        if row.session is not None:
            first_of.add(row.session)
    ordered = []
    over = _Over()
    while heap:
        at_s, number = heapq.heappop(heap)
        row = rows[number]
        logged = row.duration_s if service is None else None
        duration_s = logged if logged is not None else (service or USUAL).of(row)
        ordered.append(replace(row, at_s=at_s, duration_s=duration_s))
        for child in (*_next(waiting, row), *over.add(row.session, at_s + duration_s)):
            end_s = over.all_s(child, rows[child], at_s + duration_s)
            if end_s is not None:
                due_s = max(rows[child].at_s or 0.0, end_s + rows[child].think_s)
                heapq.heappush(heap, (due_s, child))
    return ordered


@dataclass(slots=True)
class _Over:
    """When turns were over, and which others wait for more than the one before them."""

    ends_s: dict[str, float] = field(default_factory=dict)
    held: dict[str, list[int]] = field(default_factory=dict)

    def add(self, session: str | None, end_s: float) -> list[int]:
        """Note an end; those that waited for it."""
        if session is None:
            return []
        self.ends_s[session] = end_s
        return self.held.pop(session, [])

    def all_s(self, child: int, row: Traced, before_s: float) -> float | None:
        """When all that `child` waits for is over; None, and held, where one is not known yet."""
        if not row.joins:
            return before_s
        for name in row.joins:
            if name not in self.ends_s:
                self.held.setdefault(name, []).append(child)
                return None
        return max(self.ends_s.get(name, 0.0) for name in (*row.joins, row.parent or ""))


def _next(waiting: dict[str, list[tuple[int, Traced]]], row: Traced) -> list[int]:
    """The turns that were waiting for this one: the next of its session; where every turn is a
    session of its own, all that go on from it."""
    queue = waiting.get(row.session or "")
    if not queue:
        return []
    if queue[0][1].parent is not None:
        del waiting[row.session or ""]
        return [number for number, _ in queue]
    return [queue.pop(0)[0]]
