"""Where prompts of live traffic part although what follows is the same: how often, and how many
tokens are stored again each time (pure).

A branch that begins where others begin has parted from them. What it has in common with the one
that is most like it, behind the place where the two part, was computed and stored again. Where a
branch has as much from all others together as from no single one (passages of a pool, in whatever
order), nothing would be gained: that is not counted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from aot.serving.live.branches import Branch, Named
from aot.serving.live.repeats import GRAM, Names, Tokens, common, sampled, shared, windows

KEPT = 32
"""Branches of a place with which the next one is compared."""
MOST_COMPARED_AT = 256
MOST_PLACES = 8_192
LEAST_BLOCKS = 2
"""Stored again; less is not worth a line."""
OF_ONE = 0.8
"""Of what a branch shares with all others, what it must share with one."""
LEAST_TIMES = 3
NEAR_TOKENS = 32
"""Places so near to each other, one below the other, are one: a time parts at its minutes, or at
its seconds."""
MOST_COMPARED = 32_768
"""Tokens of what was there first."""
OPENING = 8
"""Tokens of a piece by which it is known elsewhere."""


@dataclass(slots=True)
class _Kept:
    tokens: Tokens
    sample: Names


@dataclass(slots=True)
class Place:
    """`at`: tokens before the first that differs. `reordered`: what differs there stands in the
    other, too, elsewhere. `now` and `before`: tokens from the place on, of the latest pair."""

    parent: int | None
    at: int
    times: int = 0
    tokens: int = 0
    """Stored again, in all."""
    reordered: int = 0
    """Times that what stands there now stood elsewhere before."""
    apart: int = 0
    """Times that the tokens were the same: a salt, or an adapter, kept them apart."""
    refused: int = 0
    """Times that no single other explains what is the same."""
    opening: tuple[int, ...] = ()
    """Tokens from its block to the place."""
    now: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    _kept: list[_Kept] = field(default_factory=list)

    def keep(self, tokens: Tokens) -> None:
        """For those that come."""
        self._kept = [*self._kept[-KEPT + 1 :], _Kept(tokens, sampled(windows(tokens)))]

    @property
    def tokens_each(self) -> float:
        return self.tokens / self.times if self.times else 0.0


SHOWN_TOKENS = 24
MOSTLY = 0.5


@dataclass(slots=True)
class Places:
    """`above`: the blocks before a branch, the nearest first; `below`: so many tokens of what was
    stored first behind a block."""

    above: Callable[[int | None], list[Named]]
    below: Callable[[int | None, int], list[int]]
    block_tokens: int = 1
    _places: OrderedDict[int | None, Place] = field(default_factory=OrderedDict)

    def add(self, branch: Branch) -> None:
        """A branch that is whole. One whose beginning is not known is left out."""
        if branch.start is None or not (branch.parts or branch.parent is None):
            return
        tokens = np.frombuffer(branch.tokens, dtype=np.int32).copy()
        names = windows(tokens)
        mine = _Kept(tokens, sampled(names))
        place = self._places.setdefault(branch.parent, Place(branch.parent, branch.start))
        if not place._kept and (first := self.below(branch.parent, MOST_COMPARED)):
            place.keep(np.array(first, dtype=np.int32))
        self._places.move_to_end(branch.parent)
        if branch.parts and place._kept:
            self._compare(place, branch.start, mine, names)
        place.keep(mine.tokens)
        self._forget()

    def _forget(self) -> None:
        """What is compared with at places that were not used for longest; and of those, in the end,
        the ones that cost least."""
        if len(self._places) <= MOST_COMPARED_AT:
            return
        for place in list(self._places.values())[:-MOST_COMPARED_AT]:
            place._kept = []
            if not place.times:
                del self._places[place.parent]
        if len(self._places) > MOST_PLACES:
            least = sorted(self._places.values(), key=lambda p: p.tokens)[: MOST_PLACES // 4]
            for place in least:
                del self._places[place.parent]

    def _compare(self, place: Place, start: int, mine: _Kept, names: Names) -> None:
        masks = [np.isin(mine.sample, k.sample, assume_unique=True) for k in place._kept]
        counts = [int(m.sum()) for m in masks]
        most = max(counts)
        if most < OF_ONE * int(np.logical_or.reduce(masks).sum()):
            place.refused += 1
            return
        if not most:
            return
        other = place._kept[len(counts) - 1 - counts[::-1].index(most)].tokens
        same = common(mine.tokens, other)
        again = shared(names, windows(other))
        behind = max(same, again + (same if same < GRAM else 0))
        size = self.block_tokens
        lost = (start + behind) // size * size - start
        if lost < LEAST_BLOCKS * size:
            return
        at = start + same
        if not place.times or at < place.at:
            place.at, place.opening = at, tuple(mine.tokens[:same].tolist())
        place.times += 1
        place.tokens += lost
        place.apart += same >= min(len(mine.tokens), len(other))
        place.reordered += _stands_in(mine.tokens[same : same + OPENING], other)
        place.now = tuple(mine.tokens[same : same + SHOWN_TOKENS].tolist())
        place.before = tuple(other[same : same + SHOWN_TOKENS].tolist())

    def found(self) -> list[Place]:
        """The dearest first; those of one cause as one."""
        shown = [p for p in self._places.values() if p.times > p.refused]
        shown.sort(key=lambda p: p.at)
        merged: list[Place] = []
        for place in shown:
            over = self._over(place, merged)
            if over is None:
                merged.append(_copy(place))
            else:
                over.times += place.times
                over.tokens += place.tokens
                over.reordered += place.reordered
        kept = [p for p in merged if p.times >= LEAST_TIMES]
        return sorted(kept, key=lambda p: -p.tokens)

    def _over(self, place: Place, merged: list[Place]) -> Place | None:
        """The place above that has the same cause; None where there is none."""
        path = self.above(place.parent)
        names = [*(name for name, _ in path[1:]), None]
        after = dict(zip(names, (tokens for _, tokens in path), strict=False))
        for other in merged:
            begins = after.get(other.parent)
            if begins is None or begins[: len(other.opening)] != other.opening:
                continue
            both = min(place.reordered / place.times, other.reordered / other.times)
            if place.at - other.at <= NEAR_TOKENS or both > MOSTLY:
                return other
        return None


def _stands_in(piece: Tokens, other: Tokens) -> bool:
    if len(piece) < OPENING or len(other) < OPENING:
        return False
    rows = np.lib.stride_tricks.sliding_window_view(other, OPENING)
    return bool((rows == piece).all(axis=1).any())


def _copy(place: Place) -> Place:
    return Place(
        place.parent, place.at, place.times, place.tokens, place.reordered, place.apart,
        place.refused, place.opening, place.now, place.before,
    )  # fmt: skip
