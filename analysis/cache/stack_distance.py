"""The exact hits of event-order LRU at every capacity, from one pass (Mattson et al. 1970).

A reference hits in a cache of C blocks when at most C distinct blocks were used since its last use,
itself included. Under the strict-prefix rule a block is found when this holds for it and for all
blocks before it in its prompt: the running maximum decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

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


def curve(trace: BlockTrace) -> Curve:
    """The whole curve; steps only, so that it has one row for each capacity that gains."""
    needed = _prefix_maximum(distances(trace), trace.starts)
    tokens = _tokens(trace)
    if trace.full_only:
        # At least one token is computed: the last block of a prompt that ends with it is no hit.
        whole = trace.starts[1:][trace.input_tokens % trace.block_tokens == 0] - 1
        needed[whole[whole >= 0]] = 0
    hits = needed > 0
    capacities, inverse = np.unique(needed[hits], return_inverse=True)
    blocks = np.bincount(inverse, minlength=len(capacities))
    summed = np.bincount(inverse, weights=tokens[hits], minlength=len(capacities))
    return Curve(capacities, np.cumsum(blocks), np.cumsum(summed).astype(np.int64))


def distances(trace: BlockTrace) -> Ints:
    """Of every reference the LRU stack distance (1: used just before); 0 for a first use."""
    ids = trace.ids
    order = np.argsort(ids, kind="stable")
    last = np.full(len(ids), -1, dtype=np.int64)
    same = ids[order[1:]] == ids[order[:-1]]
    last[order[1:][same]] = order[:-1][same]
    # Distinct blocks in between: references there whose own last use is not in between.
    between = _earlier_and_not_larger(last) - (last + 1)
    return np.where(last >= 0, between + 1, 0)


def _earlier_and_not_larger(values: Ints) -> Ints:
    """For each i the number of j < i with values[j] <= values[i], by merging sorted halves."""
    count = np.zeros(len(values), dtype=np.int64)
    length = len(values)
    positions = np.arange(length)
    width = 1
    span = int(values.max(initial=0)) + 2
    while width < length:
        block = positions // (2 * width)
        in_left = (positions // width) % 2 == 0
        # Sorted by half, then by value: one search serves all blocks of this width.
        keys = block[in_left] * span + values[in_left] + 1
        keys.sort()
        right = ~in_left
        wanted = block[right] * span + values[right] + 1
        first = np.searchsorted(keys, block[right] * span, side="left")
        count[right] += np.searchsorted(keys, wanted, side="right") - first
        width *= 2
    return count


def _prefix_maximum(distance: Ints, starts: Ints) -> Ints:
    """The largest distance from the front of the prompt on; 0 from the first miss on."""
    maximum = np.zeros(len(distance), dtype=np.int64)
    bounds = starts.tolist()
    first_use = distance == 0
    for low, high in pairwise(bounds):
        if low == high or first_use[low]:
            continue
        end = low + int(np.argmax(first_use[low:high])) if first_use[low:high].any() else high
        maximum[low:end] = np.maximum.accumulate(distance[low:end])
    return maximum


def _tokens(trace: BlockTrace) -> Ints:
    """Tokens of every block: the last one of a prompt may be partial."""
    lengths = np.diff(trace.starts)
    index = np.arange(len(trace.ids)) - np.repeat(trace.starts[:-1], lengths)
    left = np.repeat(trace.input_tokens, lengths) - index * trace.block_tokens
    clipped: Ints = np.clip(left, 0, trace.block_tokens)
    return clipped
