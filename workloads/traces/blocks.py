"""A trace as a cache sees it: the blocks of each prompt, in order. Compact: four bytes a block."""

from __future__ import annotations

import itertools
from array import array
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from aot.configs.kernel.chains import block_chain
from aot.configs.kernel.errors import UsageError

MOST_BLOCKS = 60_000_000
"""References that a simulation holds; more is a block size that was not meant."""


@dataclass(frozen=True, slots=True)
class BlockTrace:
    """Request i has blocks ids[starts[i]:starts[i + 1]], equal where the prompts are equal up to
    there, and input_tokens[i] tokens. Ids are numbers from 0 on.

    `full_only`: blocks are whole, and at least one token of each prompt is computed, as engines
    have it; else the last block may be partial and counts like any other, as published traces do.
    """

    block_tokens: int
    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    input_tokens: npt.NDArray[np.int64]
    full_only: bool = False

    def __len__(self) -> int:
        return len(self.input_tokens)

    def prompts(self) -> Iterator[list[int]]:
        """The blocks of each request."""
        starts = self.starts.tolist()
        for low, high in pairwise(starts):
            yield self.ids[low:high].tolist()

    @property
    def distinct_blocks(self) -> int:
        return int(np.count_nonzero(np.bincount(self.ids))) if len(self.ids) else 0

    @property
    def has_repeats(self) -> bool:
        """Whether a block stands twice in one prompt, where blocks are not named by all before."""
        if not len(self.ids):
            return False
        lengths = np.diff(self.starts)
        number = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
        keys = np.sort(number * (int(self.ids.max()) + 1) + self.ids)
        return bool((keys[1:] == keys[:-1]).any())

    @property
    def computed_anyway(self) -> npt.NDArray[np.int64]:
        """Positions in `ids` that no cache finds: of a prompt at least one token is computed, so
        that the last block of one that ends with it is no hit."""
        if not self.full_only:
            return np.empty(0, np.int64)
        ends = self.starts[1:]
        blocks = ends - self.starts[:-1]
        whole = (blocks > 0) & (blocks * self.block_tokens >= self.input_tokens)
        positions: npt.NDArray[np.int64] = ends[whole] - 1
        return positions

    def hit_tokens(self, request: int, blocks: int) -> int:
        """Tokens of the first `blocks` blocks of a request."""
        return min(blocks * self.block_tokens, int(self.input_tokens[request]))


@dataclass(slots=True)
class StreamedTrace:
    """A trace that is read anew each time it is replayed: for files that are larger than memory.
    Names of blocks are whatever the file has."""

    block_tokens: int
    read: Callable[[], Iterator[tuple[Sequence[Hashable], int]]]
    """Blocks and input tokens of each request."""
    full_only: bool = False
    tokens: array[int] = field(default_factory=lambda: array("q"))
    """Input tokens of the requests that were read so far this time."""
    references: int = 0

    def prompts(self) -> Iterator[list[Hashable]]:
        """The blocks of each request."""
        self.tokens, self.references = array("q"), 0
        for blocks, tokens in self.read():
            self.tokens.append(tokens)
            self.references += len(blocks)
            yield list(blocks)


@dataclass(slots=True)
class Builder:
    """Takes prompts one by one; names of blocks may be anything."""

    block_tokens: int
    full_only: bool = False
    _names: defaultdict[Hashable, int] = field(
        default_factory=lambda: defaultdict(itertools.count().__next__)
    )
    _ids: array[int] = field(default_factory=lambda: array("i"))
    _ends: array[int] = field(default_factory=lambda: array("q", [0]))
    _tokens: array[int] = field(default_factory=lambda: array("q"))

    @property
    def references(self) -> int:
        return len(self._ids)

    def add(self, blocks: Sequence[Hashable], input_tokens: int) -> None:
        self._ids.extend(map(self._names.__getitem__, blocks))
        self._ends.append(len(self._ids))
        self._tokens.append(input_tokens)

    def build(self) -> BlockTrace:
        return BlockTrace(
            self.block_tokens,
            np.frombuffer(self._ids, np.int32) if self._ids else np.empty(0, np.int32),
            np.frombuffer(self._ends, np.int64),
            np.frombuffer(self._tokens, np.int64) if self._tokens else np.empty(0, np.int64),
            self.full_only,
        )


@dataclass(slots=True)
class TokenBuilder:
    """Takes prompts as tokens: one block for every full one, named by all that is before it.

    Names are kept as they come, eight bytes each, and numbered at the end: a dictionary of them
    would take some 140 bytes for each distinct block.
    """

    block_tokens: int
    _names: array[int] = field(default_factory=lambda: array("q"))
    _ends: array[int] = field(default_factory=lambda: array("q", [0]))
    _tokens: array[int] = field(default_factory=lambda: array("q"))

    def add(self, token_ids: Sequence[int], salt: str | None = None) -> None:
        self._names.extend(block_chain(token_ids, self.block_tokens, salt))
        self._ends.append(len(self._names))
        self._tokens.append(len(token_ids))

    def build(self) -> BlockTrace:
        """What was added; nothing can be added any more."""
        ids = _numbered(np.frombuffer(self._names, dtype=np.int64)) if self._names else _NONE
        ends, tokens = (np.array(a, dtype=np.int64) for a in (self._ends, self._tokens))
        return BlockTrace(self.block_tokens, ids, ends, tokens, full_only=True)


_NONE = np.empty(0, np.int32)
PARTS = 64
"""Names are numbered part by part: sorting takes a multiple of what is sorted."""


def _numbered(names: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Numbers from 0 on, equal for equal names."""
    ids = np.empty(len(names), dtype=np.int32)
    part, known = names.view(np.uint8)[:: names.itemsize] % PARTS, 0  # by one byte of each
    for number in range(PARTS):
        (here,) = np.nonzero(part == number)
        distinct, inverse = np.unique(names[here], return_inverse=True)
        ids[here] = inverse + known
        known += len(distinct)
    return ids


def regroup(trace: BlockTrace, block_tokens: int) -> BlockTrace:
    """The same trace in blocks of another size.

    Raises UsageError where the sizes do not divide each other, or where that is too much to hold.
    """
    native = trace.block_tokens
    if block_tokens == native:
        return trace
    if block_tokens % native == 0:
        return _coarser(trace, block_tokens)
    if native % block_tokens:
        raise UsageError(
            f"blocks of {block_tokens} tokens cannot be told from blocks of {native}: one size "
            "must divide the other"
        )
    return _finer(trace, block_tokens)


def _coarser(trace: BlockTrace, block_tokens: int) -> BlockTrace:
    """A block is known by the last of those that it is made of: it stands for all before it."""
    step = block_tokens // trace.block_tokens
    builder = Builder(block_tokens, trace.full_only)
    for blocks, tokens in zip(trace.prompts(), trace.input_tokens.tolist(), strict=True):
        whole = blocks[step - 1 :: step]
        rest = [] if trace.full_only or len(blocks) % step == 0 else [blocks[-1]]
        builder.add([*whole, *rest], tokens)
    return builder.build()


def _finer(trace: BlockTrace, block_tokens: int) -> BlockTrace:
    """A block is cut into parts; those of a partial last block are its own."""
    parts = trace.block_tokens // block_tokens
    counts = -(-trace.input_tokens // block_tokens)
    if (total := int(counts.sum())) > MOST_BLOCKS:
        raise UsageError(
            f"in blocks of {block_tokens} tokens the trace has {total:,} of them, and at most "
            f"{MOST_BLOCKS:,} can be simulated; choose larger blocks"
        )
    pieces = []
    starts = trace.starts.tolist()
    offsets = np.arange(parts, dtype=np.int64)
    for low, high, count in zip(starts, starts[1:], counts.tolist(), strict=False):
        fine = (trace.ids[low:high].astype(np.int64)[:, None] * parts + offsets).ravel()
        pieces.append(fine[:count])
    _, dense = np.unique(np.concatenate(pieces), return_inverse=True)
    ends = np.concatenate([[0], np.cumsum([len(p) for p in pieces])])
    return BlockTrace(
        block_tokens, dense.astype(np.int32), ends.astype(np.int64), trace.input_tokens,
        trace.full_only,
    )  # fmt: skip
