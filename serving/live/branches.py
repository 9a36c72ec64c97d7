"""KV events → branches: what was computed in one go behind something that was there already, as a
request leaves it. The prefix tree of live traffic, with bounded memory (pure)."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from aot.serving.client.kv_events import Batch, Cleared, Removed, Stored

MOST_BLOCKS = 400_000
"""That are known; about 150 MB."""
CLOSED_AFTER_S = 4.0
"""A branch that has not grown for so long is taken for whole,"""
WHOLE_AFTER_S = 12.0
"""and one that still grows (an answer does) after so long."""
Clock = Callable[[], float]
Named = tuple[int, Sequence[int]]
"""A block and its tokens."""


@dataclass(slots=True)
class Block:
    """`start`: how many tokens are before it; None where its beginning was not seen. `first`: the
    first that was stored right behind it, of so many `children`."""

    parent: int | None
    start: int | None
    tokens: array[int]
    there: bool = True
    first: int | None = None
    children: int = 0


@dataclass(slots=True)
class Branch:
    """`parent`: the block that it begins behind; None: at the very beginning. `start`: in tokens.
    `parts`: whether others begin there, so that it parted from them."""

    parent: int | None
    start: int | None
    parts: bool
    began_s: float
    grew_s: float
    tip: int
    tokens: array[int] = field(default_factory=lambda: array("i"))


@dataclass(slots=True)
class Branches:
    """Takes batches in order; `closed` hands out the branches that are whole."""

    now: Clock
    stored_tokens: int = 0
    again_tokens: int = 0
    """Of those, what had been stored before and was evicted."""
    lost_messages: int = 0
    restarts: int = 0
    unrooted: int = 0
    """Branches whose beginning is not known: it was there before this began, or in a gap."""
    block_tokens: int | None = None
    _blocks: dict[int, Block] = field(default_factory=dict)
    _has_roots: bool = False
    _open: dict[int, Branch] = field(default_factory=dict)
    """By their last block."""
    _whole: list[Branch] = field(default_factory=list)
    _next: int | None = None

    @property
    def resident_blocks(self) -> int:
        return sum(block.there for block in self._blocks.values())

    def take(self, batch: Batch) -> None:
        if self._next is not None and batch.sequence != self._next:
            self._gap(batch.sequence)
        self._next = batch.sequence + 1
        for event in batch.events:
            match event:
                case Stored():
                    self._store(event)
                case Removed(blocks):
                    for name in blocks:
                        if (block := self._blocks.get(name)) is not None:
                            block.there = False
                case Cleared():
                    self._clear()

    def closed(self, everything: bool = False) -> list[Branch]:
        """Those that are whole since this was last asked."""
        now_s = self.now()
        for tip, branch in list(self._open.items()):
            rests = now_s - branch.grew_s >= CLOSED_AFTER_S
            if everything or rests or now_s - branch.began_s >= WHOLE_AFTER_S:
                self._whole.append(self._open.pop(tip))
        whole, self._whole = self._whole, []
        return whole

    def path(self, parent: int | None, most: int) -> list[int]:
        """The last `most` tokens before a branch that begins behind `parent`, as far as known."""
        found: list[array[int]] = []
        length = 0
        while parent is not None and length < most:
            block = self._blocks.get(parent)
            if block is None:
                break
            found.append(block.tokens)
            length += len(block.tokens)
            parent = block.parent
        return [t for tokens in reversed(found) for t in tokens][-most:]

    def below(self, parent: int | None, most: int) -> list[int]:
        """The first `most` tokens of what was stored first behind a block."""
        tokens: list[int] = []
        block = self._blocks.get(parent) if parent is not None else None
        while block is not None and block.first is not None and len(tokens) < most:
            block = self._blocks.get(block.first)
            tokens += block.tokens if block is not None else ()
        return tokens[:most]

    def above(self, parent: int | None) -> list[Named]:
        """The blocks before a branch, the nearest first, with their tokens."""
        blocks: list[Named] = []
        while parent is not None and (block := self._blocks.get(parent)) is not None:
            blocks.append((parent, block.tokens))
            parent = block.parent
        return blocks

    def _gap(self, sequence: int) -> None:
        if self._next is not None and sequence < self._next:
            self.restarts += 1  # a server that was started anew begins to count anew
        else:
            self.lost_messages += sequence - (self._next or 0)
        self._clear()

    def _clear(self) -> None:
        self._whole += self._open.values()
        self._open.clear()
        for block in self._blocks.values():
            block.there = False

    def _store(self, event: Stored) -> None:
        size = event.block_tokens or 0
        if not event.blocks or not size or len(event.tokens) < size * len(event.blocks):
            return
        self.block_tokens = size
        self.stored_tokens += size * len(event.blocks)
        parent = event.parent
        branch = self._open.pop(parent, None) if parent is not None else None
        for number, name in enumerate(event.blocks):
            tokens = event.tokens[number * size : (number + 1) * size]
            known = self._blocks.get(name)
            if known is not None:
                self.again_tokens += 0 if known.there else size
                known.there = True
                self._whole += [branch] if branch else []
                branch = None
            else:
                branch = self._grow(branch, parent, name, tokens)
            parent = name
        if branch is not None:
            self._open[branch.tip] = branch
        if len(self._blocks) > MOST_BLOCKS:
            self._forget()

    def _grow(
        self, branch: Branch | None, parent: int | None, name: int, tokens: tuple[int, ...]
    ) -> Branch:
        above = self._blocks.get(parent) if parent is not None else None
        if parent is None:
            start, parts, self._has_roots = 0, self._has_roots, True
        elif above is None:
            start, parts = None, False
        else:
            start = None if above.start is None else above.start + len(above.tokens)
            parts = above.children > 0
            above.first = above.first if parts else name
            above.children += 1
        self._blocks[name] = Block(parent, start, array("i", tokens))
        if branch is None:
            self.unrooted += start is None
            branch = Branch(parent, start, parts, self.now(), self.now(), name)
        branch.tokens.extend(tokens)
        branch.tip, branch.grew_s = name, self.now()
        return branch

    def _forget(self) -> None:
        """Of the older half the ends, so that what many begin with stays: the evicted ones first,
        then all, until a quarter is free."""
        wanted = len(self._blocks) - MOST_BLOCKS * 3 // 4
        older = list(self._blocks)[: MOST_BLOCKS // 2]
        for there in (False, True):
            for name in reversed(older):
                block = self._blocks.get(name)
                if wanted <= 0:
                    return
                if block is None or block.children or (block.there and not there):
                    continue
                del self._blocks[name]
                wanted -= 1
                if block.parent is not None and (above := self._blocks.get(block.parent)):
                    above.children -= 1
