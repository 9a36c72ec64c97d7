"""Cache policies on a trace of blocks: which leading blocks of each prompt are found.

Protocol: requests in file order from a cold cache. The hits of a request are its longest run of
leading blocks that are resident; then all its blocks are inserted (the prompt only; outputs are
not), and the policy evicts down to the capacity. Requests in flight at the same time are not
modelled. References of each policy: docs/traffic.md.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from aot.configs.caches.radix import RadixCache
from aot.workloads.traces.blocks import BlockTrace


class Replayable(Protocol):
    """A trace, in memory or not."""

    def prompts(self) -> Iterator[list[Any]]:
        """The names of each prompt's blocks."""
        ...


SPENT = 100_000
"""Entries of a heap that may have lost their meaning."""
Leading = Iterator[int]
"""Leading resident blocks of each request, in order."""
NEVER = (1 << 31) - 1
"""Behind every position of a trace that is held (blocks.MOST_BLOCKS)."""


def _leading(blocks: list[Any], resident: Container[Any]) -> int:
    for n, block in enumerate(blocks):
        if block not in resident:
            return n
    return len(blocks)


def infinite(trace: BlockTrace) -> Leading:
    """Nothing is evicted: what is reachable at all."""
    seen: set[int] = set()
    for blocks in trace.prompts():
        yield _leading(blocks, seen)
        seen.update(blocks)


def lru(trace: Replayable, capacity: int) -> Leading:
    """Event order: blocks are touched from the front of the prompt, evicting as they come."""
    cache: OrderedDict[Any, None] = OrderedDict()
    touch, evict = cache.move_to_end, cache.popitem
    for blocks in trace.prompts():
        leading = 0
        for block in blocks:  # nothing is evicted while all is found
            if block not in cache:
                break
            touch(block)
            leading += 1
        yield leading
        for block in blocks[leading:]:
            if block in cache:
                touch(block)
            else:
                cache[block] = None
                if len(cache) > capacity:
                    evict(False)


def leaf_lru(trace: Replayable, capacity: int) -> Leading:
    """The deepest block is touched first, so that a parent outlives its children; vLLM frees a
    request's blocks in this order. Of a longer prompt only the first `capacity` blocks stay."""
    cache: OrderedDict[Any, None] = OrderedDict()
    touch, evict = cache.move_to_end, cache.popitem
    for blocks in trace.prompts():
        yield _leading(blocks, cache)
        for block in reversed(blocks[:capacity]):
            if block in cache:
                touch(block)
            else:
                cache[block] = None
        for _ in range(len(cache) - capacity):
            evict(False)


def radix(trace: Replayable, capacity: int) -> Leading:
    """SGLang's own tree: the leaf that was unused for longest goes, whole, when room is needed. A
    prompt that does not fit alone is not kept."""
    cache = RadixCache(capacity)
    for blocks in trace.prompts():
        found, _ = cache.match(blocks)
        yield found
        with suppress(ValueError):
            cache.finish(cache.start(blocks, len(blocks)))


def fifo(trace: Replayable, capacity: int) -> Leading:
    """What came first goes first, used or not."""
    cache: OrderedDict[Any, None] = OrderedDict()
    for blocks in trace.prompts():
        yield _leading(blocks, cache)
        for block in blocks:
            if block not in cache:
                if len(cache) >= capacity:
                    cache.popitem(last=False)
                cache[block] = None


def lfu(trace: Replayable, capacity: int) -> Leading:
    """The least used since it was inserted goes first; of equals the one unused for longest."""
    uses: dict[Any, tuple[int, int]] = {}
    heap: list[tuple[int, int, Any]] = []
    clock = 0
    for blocks in trace.prompts():
        yield _leading(blocks, uses)
        for block in blocks:
            clock += 1
            if block not in uses and len(uses) >= capacity:
                _evict_least(uses, heap)
            count = uses[block][0] + 1 if block in uses else 1
            uses[block] = (count, clock)
            heapq.heappush(heap, (count, clock, block))


def _evict_least(uses: dict[Any, tuple[int, int]], heap: list[tuple[int, int, Any]]) -> None:
    while True:
        count, clock, block = heapq.heappop(heap)
        if uses.get(block) == (count, clock):  # else it was used again since
            del uses[block]
            return


def next_uses(trace: BlockTrace) -> array[int]:
    """Of every reference, the position of the next one to the same block, or NEVER; also where that
    is computed anyway, so that nothing is won by keeping the block until then."""
    ids = trace.ids
    order = np.argsort(ids, kind="stable").astype(np.int32)
    last = ids[order[1:]] != ids[order[:-1]]
    following = np.full(len(ids), NEVER, dtype=np.int32)
    following[order[:-1]] = np.where(last, NEVER, order[1:])
    before = np.full(len(ids), -1, dtype=np.int32)  # of every reference, the one that it follows
    before[order[1:]] = np.where(last, -1, order[:-1])
    won_nothing = before[trace.computed_anyway]
    following[won_nothing[won_nothing >= 0]] = NEVER
    return array("i", following.tobytes())


def most_wanted(following: Sequence[int]) -> int:
    """Blocks that were used and will be again, at most at one time."""
    coming = np.asarray(following)
    again = coming[coming < NEVER]
    change = np.zeros(len(coming) + 1, dtype=np.int64)
    change[: len(coming)] += coming < NEVER
    change[again] -= 1
    return int(change.cumsum().max(initial=0))


def opt(trace: BlockTrace, capacity: int, uses: Sequence[int] | None = None) -> Leading:
    """The optimum: Belady's rule with bypass on references in prompt order (the block whose next
    use is furthest goes, or does not enter), counted under the strict-prefix rule. A child's next
    use is behind its parent's, so that the prefix rule loses nothing to it."""
    following = next_uses(trace) if uses is None else uses
    # A resident block is known by the position of its next use.
    live = bytearray(len(following))
    heap: list[int] = []
    size = 0
    positions, ends = _used_twice(trace, following)
    low = 0
    for at, high in zip(trace.starts[:-1].tolist(), ends, strict=True):
        found = at  # up to where all was resident
        for position in positions[low:high]:
            if live[position]:
                found += found == position
                size -= 1
            coming = following[position]
            if coming == NEVER:
                continue
            if size >= capacity:
                while not live[-heap[0]] or -heap[0] <= position:
                    heapq.heappop(heap)
                if -heap[0] <= coming:
                    continue
                live[-heapq.heappop(heap)] = 0
                size -= 1
            live[coming] = 1
            size += 1
            heapq.heappush(heap, -coming)
        yield found - at
        low = high
        heap = _still_wanted(heap, size, live, at)


def _used_twice(trace: BlockTrace, following: Sequence[int]) -> tuple[list[int], list[int]]:
    """Positions of blocks that were used before or will be again; how many of them lie before the
    end of each request. What is used once decides nothing."""
    coming = np.asarray(following)
    again = coming < NEVER
    matters = again.copy()
    matters[coming[again]] = True
    positions = np.flatnonzero(matters)
    return positions.tolist(), np.searchsorted(positions, trace.starts[1:]).tolist()


def _still_wanted(heap: list[int], size: int, live: bytearray, at: int) -> list[int]:
    """Now and then without what lies behind, which would fill memory in a long trace."""
    if len(heap) <= 2 * size + SPENT:
        return heap
    kept = [entry for entry in heap if -entry >= at and live[-entry]]
    heapq.heapify(kept)
    return kept


POLICIES: dict[str, Callable[..., Leading]] = {
    "lru": lru,
    "leaf-lru": leaf_lru,
    "radix": radix,
    "fifo": fifo,
    "lfu": lfu,
    "opt": opt,
}
"""By the name that the command line takes."""
IN_FLIGHT = "in-flight"
"""Requests that overlap: another kind of replay (in_flight.py)."""
