"""How much of each request an unbounded cache would find, over text instead of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from workloads.request_log import Logged

CHUNK = 48
"""Characters compared at a time: about the tokens of one small block."""


@dataclass(slots=True)
class _Node:
    """A place in the tree: what has followed it, field by field. Inside a field, chunks are
    compared only where two different ones have followed the same place."""

    after: dict[str, _Node] = field(default_factory=dict)
    beginnings: set[int] = field(default_factory=set)
    waiting: list[str] = field(default_factory=list)
    """Fields whose chunks are not in `beginnings` yet."""

    def follow(self, text: str) -> tuple[_Node, int]:
        """The place behind `text`, and how much of it was there before."""
        found = self.after.get(text)
        if found is not None:
            return found, len(text)
        for other in self.waiting:
            self.beginnings.update(_beginnings(other))
        self.waiting = [text]
        made = self.after[text] = _Node()
        return made, self._common(text) if self.beginnings else 0

    def _common(self, text: str) -> int:
        shared = 0
        for beginning in _beginnings(text):
            if beginning not in self.beginnings:
                break
            shared += CHUNK
        return shared


def _beginnings(text: str) -> Iterator[int]:
    """One number per full chunk, over it and all before it."""
    chain = 0
    for start in range(0, len(text) - CHUNK + 1, CHUNK):
        chain = hash((chain, text[start : start + CHUNK]))
        yield chain


def shared_characters(requests: Sequence[Logged]) -> list[int]:
    """Leading characters of each request that an earlier one began with."""
    roots: dict[str, _Node] = {}
    found = []
    for request in requests:
        node = roots.setdefault(request.key, _Node())
        shared, matching = 0, True
        for _, text in request.fields():
            node, common = node.follow(text)
            if matching:
                shared += common
                matching = common == len(text)
        found.append(shared)
    return found


def computed_characters(requests: Sequence[Logged]) -> int:
    """What a server with an unbounded cache has to compute for all of them."""
    return sum(map(characters, requests)) - sum(shared_characters(requests))


def characters(request: Logged) -> int:
    """All characters of a request."""
    return sum(len(text) for _, text in request.fields())
