"""Is caching working, what breaks it, what would it gain: from a log, a running server, or both."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.scripts.checkup.of_log import LogAnswer
from aot.serving.health.facts import ServerFacts
from aot.serving.health.faults import FEW_TOKENS, Fault

MOST_FLAWS = 3
CLOSE = 0.02
"""Of the prompt tokens: less is nothing to speak of."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the prompt tokens, and where it went."""

    name: str
    share: float
    words: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`capacity_tokens`: of the server at hand, running or by its file; None: not known, or there
    is none. `price`: of a million prompt tokens that are not found, less those that are."""

    log: LogAnswer | None
    server: ServerFacts | None
    faults: tuple[Fault, ...]
    capacity_tokens: int | None = None
    bytes_per_token: float | None = None
    server_file: Path | None = None
    price: float | None = None

    @property
    def found(self) -> tuple[float, str] | None:
        """The hit ratio now, and who says so; None where nobody does."""
        if self.log and self.log.served_hit_ratio is not None:
            return self.log.served_hit_ratio, "by the usage in the log"
        counted = self.server.since if self.server else None
        if counted and counted.hit_ratio is not None and (counted.prompt_tokens or 0) >= FEW_TOKENS:
            return counted.hit_ratio, "by the server's counters since its start"
        return None

    @property
    def at_capacity(self) -> float | None:
        """What a cache as large as the server's finds of the log."""
        if self.log is None or self.capacity_tokens is None:
            return None
        return self.log.at(self.capacity_tokens)

    @property
    def shares(self) -> list[Share]:
        """Where all prompt tokens of the log go, from what is found now to what no cache can find.
        Empty without a log."""
        if self.log is None:
            return []
        parts, so_far = list[Share](), 0.0
        for name, until, words in self._steps(self.log):
            if until is not None:
                parts.append(Share(name, max(0.0, until - so_far), words))
                so_far = max(so_far, until)
        return parts

    def _steps(self, log: LogAnswer) -> Iterator[tuple[str, float | None, str]]:
        """Up to which share of the tokens each part goes, and what it is."""
        if self.found:
            yield "found", *self.found
            words = NOT_FOUND if self.at_capacity is not None else f"{NOT_FOUND}; or {LARGER}"
            within = log.reachable_hit_ratio if self.at_capacity is None else self.at_capacity
            yield "not found by this server", within, words
        elif self.at_capacity is not None:
            yield "findable", self.at_capacity, "in this server's cache"
        else:
            yield "findable", log.reachable_hit_ratio, "in a cache without an end"
        larger = None if self.at_capacity is None else log.reachable_hit_ratio
        yield "needs a larger cache", larger, LARGER
        yield "broken by the prompts", log.mended_hit_ratio, BROKEN
        yield "new text", 1.0, NEW

    @property
    def next_command(self) -> str:
        """What tells more, ready to be called."""
        if self.log is None:
            url = self.server.url if self.server else "URL"
            return f"aot capture --to {url} -o log.jsonl"
        where = f"--url {self.server.url}" if self.server else "--server FILE"
        if self.server_file:
            where = f"--server {shlex.quote(str(self.server_file))}"
        return f"aot run --log {shlex.quote(self.log.log)} {where}"

    def gib(self, tokens: int) -> float | None:
        """The memory of so many tokens in the server's cache."""
        return None if self.bytes_per_token is None else tokens * self.bytes_per_token / 2**30

    def as_json(self) -> dict[str, Any]:
        found = self.found
        return {
            "format": "aot-check/1",
            "log": self.log.as_json() if self.log else None,
            "server": self.server.as_json() if self.server else None,
            "faults": [f.as_json() for f in self.faults],
            "found": None if found is None else {"hit_ratio": found[0], "by": found[1]},
            "capacity_tokens": self.capacity_tokens,
            "hit_ratio_at_capacity": self.at_capacity,
            "shares": [{"name": s.name, "share": s.share} for s in self.shares],
            "next": self.next_command,
        }


NOT_FOUND = "evicted by other traffic, expired, on another replica, or under another salt"
LARGER = "was sent before, and is displaced in a cache of that size before it comes again"
BROKEN = "in the prompts of before as well, but not at their beginning: see what breaks it"
NEW = "nobody sent it before: no cache finds it"
