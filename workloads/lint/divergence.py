"""Where requests part that should share more: measured first, whatever the cause.

Of every request an unbounded cache finds the longest beginning that an earlier one had. What it
could have found is what it has in common with the earlier request that is most like it, wherever
that stands in the two. The difference is lost, and the two part at one place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from aot.workloads.lint.prefix_tree import found
from aot.workloads.lint.seen import TOOLS, Part, Seen
from aot.workloads.lint.units import Units, common_ends

_NAME = re.compile(r'"name":"([^"]*)"')
MIN_MESSAGE = 20
"""Characters of a message that is taken for a sign of its conversation."""
SIGN = 40
"""Characters at either end of a message by which it is known although the rest was changed."""
LAST_PARTS = 8
"""Of a request, by which the next turn of its conversation is known."""
LEAST_CHARACTERS = 24
"""Lost at one place; less is chance."""
ONE_BLOCK = 0.8
"""Share of what two parts have in common that lies around one block that differs."""
IDS = (".id", ".tool_call_id", ".call_id")
MOST_OF_IT = 0.5
NO_CHANCE = 0.5
"""Share of a message that another conversation has as well, and not by chance."""
MOST_PLACES = 6
"""Of one request."""


@dataclass(frozen=True, slots=True)
class Divergence:
    """`request` and `before` are positions in the log; `at` is the position of the part where the
    two part, None where what keeps their caches apart differs; `lost`: characters that are found
    once this place, and those of the same request above it, are mended."""

    request: int
    before: int
    at: int | None
    lost: int


class Measured(NamedTuple):
    """Characters of one request: all, those found by an unbounded cache, and lost ones; `owner`:
    the latest request that had what is found."""

    total: int
    found: int
    lost: int
    owner: int | None = None


def measure(log: Sequence[Seen]) -> tuple[list[Measured], list[list[Divergence]]]:
    """What is found and lost of every request, and where each parts from the one that is most like
    it: the first place, and further ones behind it."""
    comparison, partners = _Comparison(log), _Partners(log)
    measured, places = [], []
    for number, (request, (shared, total, owner)) in enumerate(zip(log, found(log), strict=True)):
        held = partners.of(number, owner)
        parted = [comparison.parted(number, b, turn, shared) for b, turn in held]
        best = _most_telling([p for p in parted if p])
        measured.append(Measured(total, shared, best.lost if best else 0, owner))
        if best:
            places.append([best, *comparison.behind(best)])
        partners.add(number, request)
        comparison.add(request)
    return measured, places


def _most_telling(parted: Sequence[Divergence]) -> Divergence | None:
    """Of what one request lost against several, the most; at the place where it parts from the
    turn before (which is the first of them), where that is most of it."""
    if not parted:
        return None
    most = max(p.lost for p in parted)
    place = next(p for p in parted if p.lost >= MOST_OF_IT * most)
    return replace(place, lost=most)


class _Comparison:
    """Holds requests against earlier ones."""

    def __init__(self, log: Sequence[Seen]) -> None:
        self._log, self._units = log, Units()
        self._tools: set[str] = set()

    def add(self, request: Seen) -> None:
        for path, text in request.parts:
            if not path.startswith(TOOLS):
                break
            self._tools.add(text)

    def parted(self, number: int, before: int, turn: bool, shared: int) -> Divergence | None:
        """Where a request parts from an earlier one, which is a turn of the same conversation or
        any other; None where nothing is lost by it."""
        request, earlier = self._log[number], self._log[before]
        mine, theirs = request.parts, earlier.parts
        if not turn:  # of another conversation only what is as far from its beginning
            theirs = theirs[: earlier.head + len(mine) - request.head]
        at = leading(mine, theirs)
        apart = request.apart != earlier.apart
        if not apart and (
            at in (len(mine), len(theirs)) or (not turn and self._goes_on(number, at))
        ):
            return None
        behind = self._findable(mine[at:], theirs[at:])
        lost = sum(len(text) for _, text in mine[:at]) + behind - shared
        by_chance = not (turn or apart) and at >= request.head
        if by_chance and behind < NO_CHANCE * sum(len(text) for _, text in mine[at:]):
            return None
        if lost < LEAST_CHARACTERS:
            return None
        return Divergence(number, before, None if apart else at, lost)

    def _goes_on(self, number: int, at: int) -> bool:
        """Whether a place is in a conversation: what two of them have in common by chance, nobody
        can put in front."""
        request = self._log[number]
        return request.head <= at < len(request.parts) - 2

    def behind(self, first: Divergence) -> Iterator[Divergence]:
        """Further places, as long as both have the same parts."""
        if first.at is None:
            return
        mine, theirs = self._log[first.request].parts, self._log[first.before].parts
        count = 0
        for at in range(first.at + 1, min(len(mine), len(theirs))):
            if mine[at][0] != theirs[at][0] or count == MOST_PLACES:
                return
            if mine[at][1] != theirs[at][1]:
                count += 1
                lost = self._findable(mine[at:], theirs[at:])
                if lost < LEAST_CHARACTERS:
                    return
                yield Divergence(first.request, first.before, at, min(lost, first.lost))

    def _findable(self, mine: Sequence[Part], theirs: Sequence[Part]) -> int:
        """Characters of the first that are found once nothing is in their way any more: what both
        have, wherever it stands; what replaced a part that both have; tools that were sent before.
        """
        counted = self._units.shared((t for _, t in mine), (t for _, t in theirs))
        if mine and theirs and mine[0][0] == theirs[0][0]:
            counted = self._without_the_block(mine, theirs, counted)
        replaced = zip(mine, theirs, strict=False)
        counted += sum(
            len(a[1]) for a, b in replaced if a[1] != b[1] and a[0].endswith(IDS) and a[0] == b[0]
        )
        known = {tool_name(text) for path, text in theirs if path.startswith(TOOLS)}
        for path, text in mine:
            if not path.startswith(TOOLS):
                break
            if text in self._tools and tool_name(text) not in known:
                counted += len(text)
        return counted

    def _without_the_block(
        self, mine: Sequence[Part], theirs: Sequence[Part], in_units: int
    ) -> int:
        """What lies before and behind the one block of a part that differs: the block itself will
        be computed wherever it stands. What is in order elsewhere, or differs in several places, is
        counted in units; a long sentence in which a word differs has none in common."""
        ends = sum(common_ends(mine[0][1], theirs[0][1]))
        rest = self._units.shared((t for _, t in mine[1:]), (t for _, t in theirs[1:]))
        return ends + rest if ends + rest >= ONE_BLOCK * in_units else in_units


def leading(mine: Sequence[Part], theirs: Sequence[Part]) -> int:
    """How many parts two requests begin with alike."""
    for n, (a, b) in enumerate(zip(mine, theirs, strict=False)):
        if a[1] != b[1]:
            return n
    return min(len(mine), len(theirs))


def tool_name(text: str) -> str:
    """Of a tool as JSON text."""
    found_name = _NAME.search(text)
    return found_name[1] if found_name else text


class _Partners:
    """Earlier requests that one may be held against."""

    def __init__(self, log: Sequence[Seen]) -> None:
        self._log = log
        self._holder: dict[str, int] = {}
        self._all_apart = len({r.key for r in log}) >= max(3, len(log) // 2)
        """Whether hardly two requests share a cache: a salt of its own for each."""
        self._sessions: dict[str, int] = {}
        self._with_line: dict[tuple[str, str], int] = {}

    def of(self, number: int, owner: int | None) -> Iterator[tuple[int, bool]]:
        """The turn before, the one with the longest common beginning, the one just above; and
        whether it is of the same conversation."""
        request = self._log[number]
        above = number - 1 if number else None
        other = above is not None and self._log[above].apart != request.apart
        if other and not self._all_apart:
            above = None  # tenants, models: another cache is no fault
        turns = (self._sessions.get(request.session or ""), self._turn_before(request))
        others = (owner, above, self._same_application(request))
        for n in dict.fromkeys(n for n in (*turns, *others) if n is not None):
            yield n, n in turns

    def _same_application(self, request: Seen) -> int | None:
        """The latest request that has most lines of what stands before the conversation: in a log
        of several applications the one above is often of another."""
        lines = _lines(request)
        votes = Counter(self._with_line[name] for name in lines if name in self._with_line)
        best = max(votes, key=lambda n: (votes[n], n), default=None)
        return best if best is not None and 2 * votes[best] >= len(lines) else None

    def _turn_before(self, request: Seen) -> int | None:
        """The request that has the most of its last messages, of equals the latest, where it goes
        on from there. Where all of them were changed, their ends tell."""
        votes: Counter[int] = Counter()
        for text in _told(request, 2 * LAST_PARTS, but_last=1):
            votes.update(self._holder[name] for name in _signs(text) if name in self._holder)
        best = max(votes, key=lambda n: (votes[n], n), default=None)
        return best if best is not None and _goes_on_from(request, self._log[best]) else None

    def add(self, number: int, request: Seen) -> None:
        """Known to those below it from here on."""
        if request.session:
            self._sessions[request.session] = number
        for text in _told(request, LAST_PARTS):
            self._holder |= dict.fromkeys(_signs(text), number)
        self._with_line |= dict.fromkeys(_lines(request), number)


MOST_LINES = 64


def _lines(request: Seen) -> list[tuple[str, str]]:
    """By which an application is known, under the key of its cache: the first of its long lines
    that stand before the conversation."""
    texts = (text for _, text in request.parts[: request.head])
    lines = (line for text in texts for line in text.split("\n"))
    known = dict.fromkeys(line for line in lines if len(line) >= MIN_MESSAGE)
    return [(request.key, line) for line in islice(known, MOST_LINES)]


def _goes_on_from(request: Seen, earlier: Seen) -> bool:
    """Whether it is a later turn of the same conversation, and no other that says the same in
    places: it is about as long, and has a good part of what the earlier one ended with."""
    if len(request.parts) < len(earlier.parts) - LAST_PARTS:
        return False
    mine = {sign for text in _told(request, len(request.parts)) for sign in _signs(text)}
    ended = _told(earlier, LAST_PARTS)
    return 3 * sum(any(s in mine for s in _signs(text)) for text in ended) >= len(ended)


def _told(request: Seen, last: int, but_last: int = 0) -> list[str]:
    """Long texts of the conversation among the last parts of a request."""
    end = len(request.parts) - but_last
    parts = request.parts[max(request.head, len(request.parts) - last) : max(end, 0)]
    return [t for path, t in parts if len(t) >= MIN_MESSAGE and not path.endswith(IDS)]


def _signs(text: str) -> tuple[str, ...]:
    """What a message is known by: itself, and its ends."""
    return (text, text[:SIGN], text[-SIGN:])
