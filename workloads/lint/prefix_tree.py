"""How much of each request an unbounded cache would find, over text instead of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aot.configs.kernel.chains import chain
from aot.workloads.lint.seen import Seen

CHUNK = 32
"""Characters compared at a time: about the tokens of one small block."""


class _Node:
    """A place in the tree: what has followed it, field by field. Inside a field, chunks are
    compared only where two different ones have followed the same place."""

    __slots__ = ("after", "beginnings", "last", "waiting")

    def __init__(self) -> None:
        # Most places are followed by one field only: a million of them need no empty sets.
        self.after: dict[str, _Node] | None = None
        self.beginnings: set[int] | None = None
        self.last = -1
        """The request that was here last."""
        self.waiting: str | None = None
        """A field whose chunks are not in `beginnings` yet."""

    def follow(self, text: str) -> tuple[_Node, int]:
        """The place behind `text`, and how much of it was there before."""
        if self.after is None:
            self.after = {}
        known = self.after.get(text)
        if known is not None:
            return known, len(text)
        node = self.after[text] = _Node()
        if self.waiting is None:
            self.waiting = text
            return node, 0
        if self.beginnings is None:
            self.beginnings = set()
        self.beginnings.update(_beginnings(self.waiting))
        self.waiting = text
        return node, self._common(text, self.beginnings)

    @staticmethod
    def _common(text: str, beginnings: set[int]) -> int:
        shared = 0
        for beginning in _beginnings(text):
            if beginning not in beginnings:
                break
            shared += CHUNK
        return shared


def _beginnings(text: str) -> Iterator[int]:
    """One number per full chunk, over it and all before it."""
    starts = range(0, len(text) - CHUNK + 1, CHUNK)
    return chain(text[start : start + CHUNK] for start in starts)


def computed_characters(log: Sequence[Seen]) -> int:
    """What a server with an unbounded cache has to compute for all of them."""
    return sum(total - shared for shared, total, _ in found(log))


def found(log: Sequence[Seen]) -> Iterator[tuple[int, int, int | None]]:
    """Of each request, the leading characters that an earlier one began with, all of them, and the
    latest request that shared the parts which are whole. What was answered is found as well."""
    roots: dict[str, _Node] = {}
    for number, request in enumerate(log):
        node = roots.setdefault(request.key, _Node())
        owner, shared, total, matching = node.last, 0, 0, True
        node.last = number
        for _, text in request.parts:
            total += len(text)
            node, common = node.follow(text)
            if matching:
                shared += common
                matching = common == len(text)
                owner = node.last if matching and node.last >= 0 else owner
            node.last = number
        for _, text in request.answer:
            node, _ = node.follow(text)
            node.last = number
        yield shared, total, None if owner < 0 else owner
