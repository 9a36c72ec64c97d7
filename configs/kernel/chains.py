"""Beginnings: how much of one two texts share, and names for them: each over one more piece and all
before it, as engines name their blocks.

Equal names mean equal beginnings within one process (they are Python's own hashes of numbers and
text, which is salted anew for each). The names that vLLM itself gives blocks, which are the same
everywhere, are made in serving/engines/block_hashes.py.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import AnyStr


def common(one: AnyStr, other: AnyStr) -> int:
    """How many characters (bytes) two texts begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def chain(pieces: Iterable[Hashable], root: Hashable = None) -> Iterator[int]:
    """A name for each piece and all before it; `root` keeps chains apart (a salt)."""
    name = hash(root)
    for piece in pieces:
        name = hash((name, piece))
        yield name


def full_blocks(token_ids: Sequence[int], block_tokens: int) -> Iterator[tuple[int, ...]]:
    """The full blocks of a prompt: engines cache no others."""
    for start in range(0, len(token_ids) - block_tokens + 1, block_tokens):
        yield tuple(token_ids[start : start + block_tokens])


def block_chain(token_ids: Sequence[int], block_tokens: int, salt: str | None = None) -> list[int]:
    """A name for each full block of a prompt, by its tokens and all before it."""
    return list(chain(full_blocks(token_ids, block_tokens), salt))
