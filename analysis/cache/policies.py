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
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

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
    seen = np.zeros(int(trace.ids.max(initial=-1)) + 1, dtype=bool)
    for low, high in pairwise(trace.starts.tolist()):
        ids = trace.ids[low:high]
        there = seen[ids]
        yield high - low if there.all() else int(there.argmin())
        seen[ids] = True


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


AT_ONCE = 2_000_000
"""References that are sorted at a time."""


def next_uses(trace: BlockTrace) -> array[int]:
    """Of every reference, the position of the next one to the same block, or NEVER; also where that
    is computed anyway, so that nothing is won by keeping the block until then."""
    ids = trace.ids
    following = np.empty(len(ids), dtype=np.int32)
    coming = np.full(int(ids.max(initial=-1)) + 1, NEVER, dtype=np.int32)  # of each block, so far
    for low in reversed(range(0, len(ids), AT_ONCE)):
        here = ids[low : low + AT_ONCE]
        order = np.argsort(here, kind="stable").astype(np.int32)
        ends = np.flatnonzero(np.diff(here[order], append=-1))  # the last of each block, here
        first = order[np.concatenate([[0], ends[:-1] + 1])]
        after = np.empty(len(here), dtype=np.int32)
        after[:-1] = order[1:] + low
        after[ends] = coming[here[order[ends]]]
        following[low + order] = after
        coming[here[first]] = first + low
    won_nothing = np.zeros(len(ids), dtype=bool)
    won_nothing[trace.computed_anyway] = True
    again = np.flatnonzero(following < NEVER)
    following[again[won_nothing[following[again]]]] = NEVER
    made = array("i")
    made.frombytes(following.data.cast("B"))
    return made


def most_wanted(following: Sequence[int]) -> int:
    """Blocks that were used and will be again, at most at one time."""
    coming = np.asarray(following)
    change = (coming < NEVER).astype(np.int8)  # each adds one, and takes one where it is used again
    change[coming[coming < NEVER]] -= 1
    most = held = 0
    for low in range(0, len(change), AT_ONCE):
        summed = change[low : low + AT_ONCE].cumsum(dtype=np.int64)
        most = max(most, held + int(summed.max()))
        held += int(summed[-1])
    return most


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
        for position in positions[low:high].tolist():
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


def _used_twice(
    trace: BlockTrace, following: Sequence[int]
) -> tuple[npt.NDArray[np.int32], list[int]]:
    """Positions of blocks that were used before or will be again; how many of them lie before the
    end of each request. What is used once decides nothing."""
    coming = np.asarray(following)
    matters = coming < NEVER
    matters[coming[matters]] = True
    positions = np.flatnonzero(matters).astype(np.int32)
    return positions, np.searchsorted(positions, trace.starts[1:]).tolist()


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
