"""What vLLM's cache finds of requests that overlap: blocks are held from the start of a request to
the end of its answer, and found by others from its start on."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aot.configs.caches.paged import PagedCache, Running
from aot.configs.caches.rule import CacheRule


@dataclass(frozen=True, slots=True)
class Timed:
    """A request in order of time. `names`: of its prompt's full blocks; `behind`: of those that its
    answer fills."""

    at_s: float
    duration_s: float
    prompt_tokens: int
    output_tokens: int
    names: Sequence[Hashable]
    behind: Sequence[Hashable] = ()


def found_blocks(requests: Sequence[Timed], rule: CacheRule, blocks: int) -> list[int]:
    """Of each request. One for which no block is free waits until another one ends, and those
    behind it with it; one that does not fit alone finds nothing."""
    server = _Server(requests, PagedCache(rule, blocks), [0] * len(requests))
    for number, request in enumerate(requests):
        server.end_until(request.at_s)
        server.waiting.append(number)
        server.begin_waiting(request.at_s)
    server.end_until(float("inf"))
    return server.found


@dataclass(slots=True)
class _Server:
    requests: Sequence[Timed]
    cache: PagedCache
    found: list[int]
    running: list[tuple[float, int, Running]] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)

    def begin_waiting(self, now_s: float) -> None:
        while self.waiting and self._begin(self.waiting[0], now_s):
            self.waiting.popleft()

    def end_until(self, now_s: float) -> None:
        while self.running and self.running[0][0] <= now_s:
            ended_s, number, held = heapq.heappop(self.running)
            request = self.requests[number]
            held.names.extend(request.behind)
            if request.output_tokens > 1:  # the last token's values are never computed
                with suppress(ValueError):  # no room: what was generated is not kept
                    self.cache.advance(held, request.output_tokens - 1)
            self.cache.finish(held)
            self.begin_waiting(ended_s)

    def _begin(self, number: int, now_s: float) -> bool:
        request = self.requests[number]
        held = self.cache.start(request.prompt_tokens, request.names)
        try:
            self.cache.advance(held, request.prompt_tokens - held.computed_tokens)
        except ValueError:
            self.cache.finish(held)
            return not self.running  # alone, and too large
        self.found[number] = held.found
        heapq.heappush(self.running, (now_s + request.duration_s, number, held))
        return True
