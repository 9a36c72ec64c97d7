"""What came into a server's cache since a moment, by how its prompts begin: from its KV events.

A cache that gives up what was unused for longest gives up a prefix for all that came in since it
was last used; so what displaced it is told by the beginnings of those prompts, and their share.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from aot.serving.client.kv_events import Batch, Cleared, Removed, Stored

SHOWN_TOKENS = 24
MOST_BEGINNINGS = 10_000
"""That are told apart; of more, the smaller half are counted together."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Prompts that share their first block. `first_tokens`: ids of what it begins with; empty where
    the server does not tell tokens."""

    tokens: int
    share: float
    first_tokens: tuple[int, ...]


@dataclass(slots=True)
class Arrivals:
    """Memory is bounded by the blocks in the cache, and by MOST_BEGINNINGS."""

    _root_of: dict[int, int] = field(default_factory=dict)
    _first: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _tokens: Counter[int] = field(default_factory=Counter)
    _rest_tokens: int = 0

    def take(self, batch: Batch) -> None:
        for event in batch.events:
            match event:
                case Stored():
                    self._store(event)
                case Removed(blocks):
                    for block in blocks:
                        self._root_of.pop(block, None)
                case Cleared():
                    self._root_of.clear()

    def reset(self) -> None:
        """From now on."""
        self._tokens.clear()
        self._rest_tokens = 0
        self._forget_first()

    @property
    def total_tokens(self) -> int:
        return self._tokens.total() + self._rest_tokens

    def largest(self, but: set[int]) -> Beginning | None:
        """The beginning with the most new tokens, other than those that begin with one of the
        blocks in `but`; None where nothing else came in."""
        others = {root: n for root, n in self._tokens.items() if root not in but}
        if not others:
            return None
        root = max(others, key=lambda r: others[r])
        return Beginning(others[root], others[root] / self.total_tokens, self._first.get(root, ()))

    def _store(self, event: Stored) -> None:
        if not event.blocks:
            return
        root = event.blocks[0]
        if event.parent is not None:
            root = self._root_of.get(event.parent, event.parent)
        else:
            self._first[root] = event.tokens[:SHOWN_TOKENS]
        for block in event.blocks:
            self._root_of[block] = root
        self._tokens[root] += len(event.blocks) * (event.block_tokens or 0)
        if len(self._tokens) > MOST_BEGINNINGS or len(self._first) > 2 * MOST_BEGINNINGS:
            self._merge()

    def _merge(self) -> None:
        kept = Counter(dict(self._tokens.most_common(MOST_BEGINNINGS // 2)))
        self._rest_tokens += self._tokens.total() - kept.total()
        self._tokens = kept
        self._forget_first()

    def _forget_first(self) -> None:
        wanted = self._tokens.keys() | set(self._root_of.values())
        self._first = {root: ids for root, ids in self._first.items() if root in wanted}
