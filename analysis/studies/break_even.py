"""From which static length on prefix caching pays: the break-even of a sweep over static_tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from aot.analysis.studies.study import Row

RULE_TOKENS = 500
"""The usual rule of thumb: below about 500 static tokens caching is not worth the trouble."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """`pays_from`: the shortest measured static length from which on every longer one has an effect
    in favour of `arm`, None where there is none. `not_at`: the longest one below it, which has not;
    None where the shortest one measured pays already. `open`: it may have one, for all that was
    measured."""

    server: str
    arm: str
    pays_from: int | None
    not_at: int | None
    open: bool = False

    @property
    def words(self) -> str:
        unclear = f" (at {self.not_at} it is inconclusive: more repeats would tell)"
        unclear = unclear if self.open else ""
        if self.pays_from is None:
            longest = f"up to the longest measured, {self.not_at}"
            return f"{self.arm} is not shown to pay from any static length on, {longest}{unclear}"
        if self.not_at is None:
            return f"{self.arm} pays at {self.pays_from} static tokens, the shortest measured"
        if self.open:
            return f"{self.arm} is shown to pay from {self.pays_from} static tokens on{unclear}"
        between = f"between {self.not_at} and {self.pays_from} static tokens"
        return f"{self.arm} begins to pay {between}, {self._beside_the_rule()}"

    def _beside_the_rule(self) -> str:
        assert self.pays_from is not None
        assert self.not_at is not None
        where: Literal["below", "above", "around"] = "around"
        if self.pays_from <= RULE_TOKENS:
            where = "below"
        elif self.not_at >= RULE_TOKENS:
            where = "above"
        return f"{where} the {RULE_TOKENS} tokens of the usual rule of thumb"


def find(rows: Sequence[Row]) -> list[BreakEven]:
    """One for each server and caching arm of a sweep over static lengths that has jit, too. Void
    points decide nothing."""
    known = [
        r for r in rows if r.arm != "jit" and isinstance(r.value, int) and r.speedup and not r.void
    ]
    return [
        _of([r for r in known if (r.server, r.arm) == key], *key)
        for key in dict.fromkeys((r.server, r.arm) for r in known)
    ]


def _of(rows: list[Row], server: str, arm: str) -> BreakEven:
    pays_from = not_at = None
    unclear = False
    for row in sorted(rows, key=lambda r: int(r.value), reverse=True):
        if row.verdict != "effect" or (row.speedup or 0) <= 1:
            not_at, unclear = int(row.value), row.verdict not in ("none", "effect")
            break
        pays_from = int(row.value)
    return BreakEven(server, arm, pays_from, not_at, unclear)
