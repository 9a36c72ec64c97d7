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
from dataclasses import dataclass, field, replace

import numpy as np

from aot.serving.live.branches import Branch, Named
from aot.serving.live.forks import Fork, Parted

MOST_COMPARED_AT = 256
"""Forks whose branches are kept, to be compared with."""
MOST_PLACES = 8_192
MOST_COMPARED = 32_768
"""Tokens of what was there first."""
LEAST_BLOCKS = 2
LEAST_TOKENS = 32
"""Stored again; less is not worth a line."""
LEAST_TIMES = 3
NEAR_TOKENS = 32
"""Places so near to each other on one path are one: a time parts at its minutes, or its seconds."""
MOSTLY = 0.5


@dataclass(slots=True)
class Place:
    """`parent`: the block behind which it is, `opening`: the tokens from there to it, `at`: how
    many tokens are before it in all. `now` and `before`: tokens from it on, of the latest pair."""

    parent: int | None
    at: int
    opening: tuple[int, ...]
    times: int = 0
    tokens: int = 0
    """Stored again, in all."""
    reordered: int = 0
    """Times that what stands there now stood elsewhere before."""
    apart: int = 0
    """Times that the tokens were the same: a salt, or an adapter, kept them apart."""
    refused: int = 0
    """Times that no single other explains what is the same."""
    now: tuple[int, ...] = ()
    before: tuple[int, ...] = ()

    @property
    def tokens_each(self) -> float:
        return self.tokens / self.times if self.times else 0.0

    def is_near(self, opening: tuple[int, ...]) -> bool:
        """Whether a parting behind the same block, after `opening`, is this one."""
        shorter = min(len(opening), len(self.opening))
        alike = opening[:shorter] == self.opening[:shorter]
        return alike and abs(len(opening) - len(self.opening)) <= NEAR_TOKENS

    def add(self, parted: Parted, at: int, tokens: int) -> None:
        if at < self.at:
            self.at, self.opening = at, parted.opening
        self.now, self.before = parted.now, parted.before
        if not parted.by_one:
            self.refused += 1
            return
        self.times += 1
        self.tokens += tokens
        self.reordered += parted.reordered
        self.apart += parted.apart


@dataclass(slots=True)
class Places:
    """`above`: the blocks before a branch, the nearest first; `below`: so many tokens of what was
    stored first behind a block."""

    above: Callable[[int | None], list[Named]]
    below: Callable[[int | None, int], list[int]]
    block_tokens: int = 1
    _forks: OrderedDict[int | None, Fork] = field(default_factory=OrderedDict)
    _places: dict[int | None, list[Place]] = field(default_factory=dict)

    def add(self, branch: Branch) -> None:
        """A branch that is whole. One whose beginning is not known is left out."""
        if branch.start is None or not (branch.parts or branch.parent is None):
            return
        tokens = np.frombuffer(branch.tokens, dtype=np.int32).copy()
        fork = self._forks.setdefault(branch.parent, Fork())
        self._forks.move_to_end(branch.parent)
        if fork.is_empty and (first := self.below(branch.parent, MOST_COMPARED)):
            fork.keep(np.array(first, dtype=np.int32))
        if branch.parts and (parted := fork.parted(tokens)):
            self._count(branch.parent, branch.start, parted)
        fork.keep(tokens)
        while len(self._forks) > MOST_COMPARED_AT:
            self._forks.popitem(last=False)

    def begin(self) -> None:
        """Count from now on; what was there stays what is compared with."""
        self._places.clear()

    def found(self) -> list[Place]:
        """The dearest first; those of one cause as one."""
        known = [p for places in self._places.values() for p in places if p.times > p.refused]
        merged: list[Place] = []
        for place in sorted(known, key=lambda p: p.at):
            over = self._over(place, merged)
            if over is None:
                merged.append(replace(place))
            else:
                over.times += place.times
                over.tokens += place.tokens
                over.reordered += place.reordered
        kept = [p for p in merged if p.times >= LEAST_TIMES]
        return sorted(kept, key=lambda p: -p.tokens)

    def _count(self, parent: int | None, start: int, parted: Parted) -> None:
        size = self.block_tokens
        lost = (start + parted.again) // size * size - start
        if lost < max(LEAST_BLOCKS * size, LEAST_TOKENS):
            return
        at = start + len(parted.opening)
        places = self._places.setdefault(parent, [])
        place = next((p for p in places if p.is_near(parted.opening)), None)
        if place is None:
            places.append(place := Place(parent, at, parted.opening))
        place.add(parted, at, lost)
        if len(self._places) > MOST_PLACES:
            self._forget()

    def _forget(self) -> None:
        """Those that cost least."""
        cost = {name: sum(p.tokens for p in places) for name, places in self._places.items()}
        for name in sorted(cost, key=lambda n: cost[n])[: MOST_PLACES // 4]:
            del self._places[name]

    def _over(self, place: Place, merged: list[Place]) -> Place | None:
        """The place above that has the same cause; None where there is none."""
        path = self.above(place.parent)
        names = [*(name for name, _ in path[1:]), None]
        after = dict(zip(names, (tokens for _, tokens in path), strict=False))
        for other in merged:
            begins = after.get(other.parent)
            if begins is None or tuple(begins[: len(other.opening)]) != other.opening:
                continue
            both = min(place.reordered / place.times, other.reordered / other.times)
            if place.at - other.at <= NEAR_TOKENS or both > MOSTLY:
                return other
        return None
