"""The exact hits of both LRU orders at every capacity, from one pass (Mattson et al. 1970).

A reference hits in a cache of C blocks when at most C distinct blocks were used since its last use,
itself included. Under the strict-prefix rule a block is found when this holds for it and for all
blocks before it in its prompt: the running maximum decides. leaf-lru is a stack policy as well: all
blocks of a prompt are looked for before any is touched, and then touched from the deepest one on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aot.configs.kernel.errors import UsageError
from aot.workloads.traces.blocks import BlockTrace

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Curve:
    """hit_blocks[i] and hit_tokens[i] are reached from capacity_blocks[i] on; ascending."""

    capacity_blocks: Ints
    hit_blocks: Ints
    hit_tokens: Ints

    def at(self, capacity: int) -> tuple[int, int]:
        """(hit blocks, hit tokens) in a cache of `capacity` blocks."""
        index = int(np.searchsorted(self.capacity_blocks, capacity, side="right")) - 1
        return (int(self.hit_blocks[index]), int(self.hit_tokens[index])) if index >= 0 else (0, 0)


def knows(trace: BlockTrace, policy: str) -> bool:
    """Whether one pass tells the hits of `policy`. That of leaf-lru takes a block that stands twice
    in one prompt for used before it."""
    return policy == "lru" or (policy == "leaf-lru" and not trace.has_repeats)


def curve(trace: BlockTrace, policy: str = "lru") -> Curve:
    """The whole curve of `policy` (lru or leaf-lru); steps only, so that it has one row for each
    capacity that gains. UsageError where one pass does not tell it."""
    if not knows(trace, policy):
        raise UsageError(
            f"{policy}: some prompt has a block twice, so that its curve is not known; name "
            "capacities, which are replayed"
        )
    measured = distances(trace) if policy == "lru" else leaf_distances(trace)
    needed = _prefix_maximum(measured, trace.starts)
    tokens = _tokens(trace)
    needed[trace.computed_anyway] = 0
    hits = needed > 0
    capacities, inverse = np.unique(needed[hits], return_inverse=True)
    blocks = np.bincount(inverse, minlength=len(capacities))
    summed = np.bincount(inverse, weights=tokens[hits], minlength=len(capacities))
    return Curve(capacities, np.cumsum(blocks), np.cumsum(summed).astype(np.int64))


def distances(trace: BlockTrace) -> Ints:
    """Of every reference the LRU stack distance (1: used just before); 0 for a first use."""
    ids = trace.ids
    last = _last_uses(ids)
    # Distinct blocks in between: references there whose own last use is not in between.
    between = _earlier_and_not_larger(last) - (last + 1)
    return np.where(last >= 0, between + 1, 0)


def leaf_distances(trace: BlockTrace) -> Ints:
    """The same for leaf-lru: distinct blocks touched since its last use when the prompt came, the
    block itself included; touches go from the deepest block of a prompt to its first."""
    lengths = np.diff(trace.starts)
    begin = np.repeat(trace.starts[:-1], lengths)
    end = np.repeat(trace.starts[1:], lengths)
    # Where each reference stands in the sequence of touches.
    touched_at = begin + end - 1 - np.arange(len(trace.ids))
    touches = np.empty_like(trace.ids)
    touches[touched_at] = trace.ids
    last = _last_uses(touches)
    mine = last[touched_at]
    if _is_chained(mine, trace.starts):
        # All that its own prompt touched before it was used before it, too: it is taken off again.
        between = _earlier_and_not_larger(last)[touched_at] - (touched_at - begin) - (mine + 1)
        return np.where(mine >= 0, between + 1, 0)
    # Looked for before its prompt's own touches: queries of a request, then its touches.
    queries_at = np.arange(len(trace.ids)) + begin
    touches_at = np.arange(len(touches)) + end
    values = np.empty(2 * len(touches), dtype=np.int64)
    values[queries_at], values[touches_at] = mine, last
    counted = np.zeros(len(values), dtype=bool)
    counted[touches_at] = True
    between = _earlier_and_not_larger(values, counted)[queries_at] - (mine + 1)
    return np.where(mine >= 0, between + 1, 0)


def _last_uses(ids: npt.NDArray[np.int32]) -> Ints:
    """Of every reference the position of the one before it to the same block; -1 for a first."""
    order = np.argsort(ids, kind="stable")
    last = np.full(len(ids), -1, dtype=np.int64)
    same = ids[order[1:]] == ids[order[:-1]]
    last[order[1:][same]] = order[:-1][same]
    return last


def _is_chained(last: Ints, starts: Ints) -> bool:
    """Whether in every prompt each block was last used after the next one, or neither was: so it is
    where a block stands for all that is before it."""
    if not len(last):
        return True
    falls = (last[1:] < last[:-1]) | (last[1:] < 0)
    first = starts[1:-1]
    falls[first[(first > 0) & (first < len(last))] - 1] = True
    return bool(falls.all())


def _earlier_and_not_larger(values: Ints, counted: npt.NDArray[np.bool_] | None = None) -> Ints:
    """For each i the number of j < i with values[j] <= values[i]; of the `counted` j only. -1, the
    least there is, is most of a trace: it needs no tree."""
    least = values < 0
    weighed = least if counted is None else least & counted
    before = np.cumsum(weighed)
    others = np.flatnonzero(~least)
    count: Ints = before - weighed
    inner = _in_a_tree(values[others], None if counted is None else counted[others])
    count[others] = before[others] + inner
    return count


def _in_a_tree(values: Ints, counted: npt.NDArray[np.bool_] | None) -> Ints:
    """The same, whatever the values.

    Places in order of their values, parted into halves by each bit of the place, the highest first
    (a wavelet tree): at each bit, a place of the right half is behind all of the left half that
    stand before it here, whose values are not larger.
    """
    count = np.zeros(len(values), dtype=np.int32)
    place = np.argsort(values, kind="stable").astype(np.int32)
    here = np.arange(len(values), dtype=np.int32)
    for bit in reversed(range((len(values) - 1).bit_length() if len(values) else 0)):
        half = 1 << bit
        in_left = place & half == 0
        start = place >> (bit + 1) << (bit + 1)  # of both halves, here as in `values`
        lefts = _behind(in_left, start)
        weighed = lefts if counted is None else _behind(in_left & counted[place], start)
        right = ~in_left
        count[place[right]] += weighed[right]
        parted = np.empty_like(place)
        parted[np.where(in_left, start + lefts - 1, half + here - lefts)] = place
        place = parted
    return count.astype(np.int64)


def _behind(marked: npt.NDArray[np.bool_], start: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """At each place how many of the `marked` are from `start` on up to here, itself included."""
    summed = np.zeros(len(marked) + 1, dtype=np.int32)
    np.cumsum(marked, out=summed[1:])
    behind: npt.NDArray[np.int32] = summed[1:] - summed[start]
    return behind


def _prefix_maximum(distance: Ints, starts: Ints) -> Ints:
    """The largest distance from the front of the prompt on; 0 from the first miss on."""
    lengths = np.diff(starts)
    number = np.repeat(np.arange(len(lengths)), lengths)
    above = int(distance.max(initial=0)) + 1
    # Prompts stand one above the other, so that one running maximum serves all.
    maximum = np.maximum.accumulate(distance + number * above) - number * above
    missed = _behind(distance == 0, np.repeat(starts[:-1], lengths))
    return np.where(missed == 0, maximum, 0)


def _tokens(trace: BlockTrace) -> Ints:
    """Tokens of every block: the last one of a prompt may be partial."""
    lengths = np.diff(trace.starts)
    index = np.arange(len(trace.ids)) - np.repeat(trace.starts[:-1], lengths)
    left = np.repeat(trace.input_tokens, lengths) - index * trace.block_tokens
    clipped: Ints = np.clip(left, 0, trace.block_tokens)
    return clipped
