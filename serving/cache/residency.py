"""Which blocks are on a server, from its KV events: pure bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aot.serving.client.kv_events import Batch, Cleared, Removed, Stored


@dataclass(frozen=True, slots=True)
class Resident:
    """Of a chain of blocks: how many are there, and how many from its beginning without a gap,
    which is what a prompt can find."""

    blocks: int
    present: int
    leading: int

    @property
    def complete(self) -> bool:
        return self.leading == self.blocks


@dataclass(slots=True)
class Residency:
    """The blocks on one server. `certain` is False when events may have been missed: at first,
    unless the history was replayed, and after a gap in the sequence, from where on only what is
    seen to be stored counts as there.

    A server that was restarted begins its sequence anew, with an empty cache: a number that is not
    above the last one can be nothing else, but for what is in the history, too, since that was
    asked for while messages came in already.
    """

    certain: bool = False
    restarts: int = 0
    """How often the server was seen to begin anew."""
    _blocks: set[int] = field(default_factory=set)
    _next: int | None = None
    _history: dict[int, Batch] = field(default_factory=dict)

    def remember(self, history: Sequence[Batch]) -> None:
        """Apply what the server still remembers; nothing at all means that nothing happened."""
        if not history:
            self.certain, self._next = True, 0
        for batch in history:
            self.take(batch)
        self._history = {batch.sequence: batch for batch in history}

    def forget(self) -> None:
        """What is there is not known any more: the connection to the server broke."""
        self._blocks.clear()
        self._history.clear()
        self.certain, self._next = False, None

    def assume(self, chain: Sequence[int]) -> None:
        """These blocks are there, as the server's answer showed: it tells of no block anew that it
        has already."""
        self._blocks.update(chain)

    def take(self, batch: Batch) -> None:
        """Apply one message, in order; one of the history is left out."""
        if self._history.pop(batch.sequence, None) == batch:
            return
        if self._next is not None and batch.sequence != self._next:
            self.restarts += batch.sequence < self._next
            self._blocks.clear()
            self.certain = False
        if batch.sequence == 0:
            self.certain = True  # the server's first message: nothing can have been missed
        self._history.clear()  # live messages are in order: what is behind is of another start
        self._next = batch.sequence + 1
        for event in batch.events:
            match event:
                case Stored(blocks, _):
                    self._blocks.update(blocks)
                case Removed(blocks):
                    self._blocks.difference_update(blocks)
                case Cleared():
                    self._blocks.clear()
                    self.certain = True

    def of(self, chain: Sequence[int]) -> Resident:
        """How much of a chain of blocks (kv_events numbers, first block first) is there."""
        there = [block in self._blocks for block in chain]
        leading = there.index(False) if False in there else len(there)
        return Resident(len(chain), sum(there), leading)

    @property
    def blocks(self) -> int:
        """Blocks in the cache, as far as was seen."""
        return len(self._blocks)
