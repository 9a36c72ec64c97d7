"""How much of one run of tokens stands in another, wherever it stands there (pure)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

GRAM = 16
"""Tokens that are the same in a row: fewer is chance."""
_SAMPLED = np.uint64(7)
"""One window in eight is looked at to find what is most alike."""
_BASE = np.uint64(0x9E3779B97F4A7C15)

Tokens = npt.NDArray[np.int32]
Names = npt.NDArray[np.uint64]


def windows(tokens: Tokens) -> Names:
    """A name for each run of GRAM tokens; equal for equal runs."""
    count = len(tokens) - GRAM + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    values = tokens.astype(np.uint64) + np.uint64(1)
    names = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(GRAM):
            names = names * _BASE + values[offset : offset + count]
            names ^= names >> np.uint64(29)
    return names


def sampled(names: Names) -> Names:
    """Some of them, the same ones in every run that has them; sorted."""
    return np.unique(names[(names & _SAMPLED) == 0])


def shared(mine: Names, theirs: Names) -> int:
    """Tokens that lie in a window which the other has, too."""
    if not len(mine) or not len(theirs):
        return 0
    begins = np.isin(mine, theirs).astype(np.int32)
    covered = np.zeros(len(mine) + GRAM, np.int32)
    covered[: len(mine)] += begins
    covered[GRAM:] -= begins
    return int((covered.cumsum()[:-1] > 0).sum())


def common(one: Sequence[int] | Tokens, other: Sequence[int] | Tokens) -> int:
    """Tokens that both begin with."""
    length = min(len(one), len(other))
    first, second = np.asarray(one[:length]), np.asarray(other[:length])
    differing = np.flatnonzero(first != second)
    return int(differing[0]) if len(differing) else length
