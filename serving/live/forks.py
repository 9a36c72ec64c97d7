"""A block behind which prompts part, and what parted there last: with which of them a new one is
most alike (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from aot.serving.live.repeats import GRAM, Names, Tokens, common, sampled, shared, windows

KEPT = 48
"""Branches with which the next one is compared."""
OF_ONE = 0.8
"""Of what a branch shares with all others, what it must share with one."""
OPENING = 8
"""Tokens of a piece by which it is known elsewhere."""
SHOWN_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Parted:
    """One branch, against the one that is most like it. `opening`: what both begin with, behind the
    block; `again`: tokens of the branch that the other has, too, the opening included. `by_one`:
    whether that explains what it shares with all. `reordered`: what differs first stands in the
    other as well. `apart`: nothing differs, so that a salt or an adapter kept them apart."""

    opening: tuple[int, ...]
    again: int
    by_one: bool
    reordered: bool
    apart: bool
    now: tuple[int, ...]
    before: tuple[int, ...]


@dataclass(slots=True)
class Fork:
    _kept: list[tuple[Tokens, Names]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not self._kept

    def keep(self, tokens: Tokens) -> None:
        """For those that come."""
        self._kept = [*self._kept[-KEPT + 1 :], (tokens, sampled(windows(tokens)))]

    def parted(self, mine: Tokens) -> Parted | None:
        """None where nothing that was kept has anything of it."""
        names = windows(mine)
        sample = sampled(names)
        masks = [np.isin(sample, theirs, assume_unique=True) for _, theirs in self._kept]
        counts = [int(mask.sum()) for mask in masks]
        most = max(counts, default=0)
        if not most:
            return None
        other = self._kept[len(counts) - 1 - counts[::-1].index(most)][0]
        same = common(mine, other)
        again = shared(names, windows(other))
        return Parted(
            opening=tuple(mine[:same].tolist()),
            again=max(same, again + (same if same < GRAM else 0)),
            by_one=most >= OF_ONE * int(np.logical_or.reduce(masks).sum()),
            reordered=_stands_in(mine[same : same + OPENING], other),
            apart=same >= min(len(mine), len(other)),
            now=tuple(mine[same : same + SHOWN_TOKENS].tolist()),
            before=tuple(other[same : same + SHOWN_TOKENS].tolist()),
        )


def _stands_in(piece: Tokens, other: Tokens) -> bool:
    if len(piece) < OPENING or len(other) < OPENING:
        return False
    rows = np.lib.stride_tricks.sliding_window_view(other, OPENING)
    return bool((rows == piece).all(axis=1).any())
