"""Texts in units that can be compared wherever they stand: lines, sentences, items of lists."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from aot.configs.kernel.chains import common

_UNIT = re.compile(r"[^\n,;.!?:。、！？]*(?:[\n,;.!?:。、！？](?:[\s\"')\]}]*)|\Z)")


class Units:
    """Names of units, by number. Texts that were taken apart once are not again."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._length: list[int] = []
        self._of: dict[str, tuple[int, ...]] = {}

    def of(self, text: str) -> tuple[int, ...]:
        """The units of a text, in its order."""
        known = self._of.get(text)
        if known is None:
            known = self._of[text] = tuple(self._named(u) for u in _UNIT.findall(text) if u)
        return known

    def _named(self, unit: str) -> int:
        """Spaces and the mark at the end of a unit say where it stands, not what it says."""
        core = unit.strip(" \t\r\n,;.")
        number = self._number.get(core)
        if number is None:
            number = self._number[core] = len(self._length)
            self._length.append(len(unit))
        return number

    def shared(self, one: Iterable[str], other: Iterable[str]) -> int:
        """Characters that both have in units, in whatever order."""
        first, second = (Counter(u for text in x for u in self.of(text)) for x in (one, other))
        if len(second) < len(first):
            first, second = second, first
        length = self._length
        return sum(min(n, second[u]) * length[u] for u, n in first.items() if u in second)


def common_ends(one: str, other: str) -> tuple[int, int]:
    """How many characters two texts begin with alike, and how many of the rest they end with."""
    begin = common(one, other)
    left = min(len(one), len(other)) - begin
    return begin, common(one[::-1][:left], other[::-1][:left])
