"""What is known of a server that is watched, at one moment."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Parting:
    """Where prompts part: `at` tokens from their beginning, `times` since the watch began.

    `before_it`, `now`, `earlier`: the text before the place, and what stands there now and stood
    there before; None where no tokenizer is at hand, or text is not to be shown. `rule`: of lint.
    """

    at: int
    times: int
    tokens: int
    kind: str
    rule: str | None = None
    fix: str | None = None
    before_it: str | None = None
    now: str | None = None
    earlier: str | None = None

    @property
    def tokens_each(self) -> float:
        return self.tokens / self.times


@dataclass(frozen=True, slots=True)
class Events:
    """What the KV events told. `silent`: none came, although the server computed prompts."""

    stored_tokens: int
    again_tokens: int
    """Stored before, and evicted in between."""
    resident_tokens: int
    lost_messages: int
    restarts: int
    unrooted: int
    """Branches whose beginning is not known: they are in no place."""
    silent: bool
    partings: tuple[Parting, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """Counts are since the watch began; None: the server does not say."""

    url: str
    model: str
    engine: str
    version: str | None
    watched_s: float
    prompt_tokens: float | None
    hit_tokens: float | None
    last_hit_ratio: float | None
    """Of the last interval."""
    hit_ratio_since_start: float | None
    """Of all that the server counted since it started."""
    gauges: dict[str, float]
    restarted: bool
    """Whether its counters began anew."""
    events: Events | None
    resident: dict[str, tuple[int, int]]
    """Of compiled prompts: leading blocks that are there, of so many."""

    @property
    def hit_ratio(self) -> float | None:
        if not self.prompt_tokens or self.hit_tokens is None:
            return None
        return self.hit_tokens / self.prompt_tokens

    @property
    def reachable(self) -> float | None:
        """The hit ratio, had no prompt parted at a place that is known, and nothing been evicted;
        None without events."""
        if not self.prompt_tokens or self.hit_tokens is None or self.events is None:
            return None
        more = sum(p.tokens for p in self.events.partings) + self.events.again_tokens
        return min(1.0, (self.hit_tokens + more) / self.prompt_tokens)

    def as_json(self) -> dict[str, Any]:
        made = asdict(self) | {"hit_ratio": self.hit_ratio, "reachable_hit_ratio": self.reachable}
        if self.events:
            made["events"]["partings"] = [
                asdict(p) | {"tokens_each": p.tokens_each} for p in self.events.partings
            ]
        return made
