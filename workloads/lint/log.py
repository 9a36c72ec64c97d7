"""Lint a request log: measured first, then named.

What a request loses is what it has in common with the earlier one that is most like it and does not
find (divergence.py). A flaw costs what would be found with its places mended, and those above them
in the same request; so costs overlap where two flaws stand one behind the other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from aot.workloads.lint.divergence import Divergence, Measured, measure
from aot.workloads.lint.flaw import GENERAL, MIN_DUPLICATE_WORDS, RULES, Flaw, Level
from aot.workloads.lint.naming import Named, Namer
from aot.workloads.lint.seen import TOOLS, Seen

MIN_SHARE = 0.01
ERROR_SHARE = 0.05
MIN_TOKENS = 8.0
"""A flaw that costs less, per request, is not worth a line."""
STATIC_SHARE = 0.5
DUPLICATE = "duplicate-text"
SERVED = "served-less"
RECURRING = 8
"""Where a text that differs is the same in so many requests each, as the names of tenants are, only
the first request of each pays: a longer log would show less and less of it."""
RECURRING_SHARE = 0.02
OF_TENANTS = (*GENERAL, "user-in-prefix")
ANYWHERE = ("call-ids", "history-truncated", "reasoning-changed")
"""Causes that show at many places of one request."""
LIFETIME_S = 300.0
"""For how long hosted APIs keep what is not used (configs/pricing: ttl_s)."""
SERVED_LESS = 0.05
"""Of the prompt tokens that a server should have found, and has not."""


@dataclass(frozen=True, slots=True)
class LogReport:
    """Tokens of the log (estimated from characters), and what the flaws make the server compute.
    `served_ratio`: what the log's own server found, of all; None where it does not say."""

    requests: int
    tokens: float
    computed_tokens: float
    """What an unbounded cache does not find."""
    ideal_tokens: float
    """Of those, what could not be found anyhow."""
    flaws: list[Flaw]
    served_ratio: float | None = None

    @property
    def hit_ratio(self) -> float:
        """Of an unbounded cache."""
        return 1 - self.computed_tokens / self.tokens if self.tokens else 0.0


@dataclass(slots=True)
class _Cause:
    """One rule at one kind of place. `lost`: characters, by request."""

    named: Named
    first: int
    lost: dict[int, int] = field(default_factory=lambda: defaultdict(int))


@dataclass(frozen=True, slots=True)
class Server:
    """How the server of a log keeps prompts: in whole blocks, and a provider from so many tokens
    on only."""

    block_tokens: int = 1
    minimum_tokens: int = 0

    def found(self, tokens: float) -> float:
        """Of a beginning of so many tokens that was sent before."""
        kept = tokens - tokens % self.block_tokens
        return kept if kept >= self.minimum_tokens else 0.0


ANY = Server()


def lint(
    log: Sequence[Seen], file: str, tokens_per_character: float, server: Server = ANY
) -> LogReport:
    """All flaws of a log, the dearest first."""
    measured, places = measure(log)
    total = sum(m.total for m in measured)
    scale = tokens_per_character
    found = sum(server.found(m.found * scale) for m in measured) / scale
    computed, lost = total - found, sum(m.lost for m in measured)
    flaws = []
    for cause in _causes(log, places):
        tokens = sum(cause.lost.values()) / len(log) * scale
        share = sum(cause.lost.values()) / max(1, total)
        if share < MIN_SHARE or tokens < MIN_TOKENS or _is_of_tenants(cause, len(log), share):
            continue
        level: Level = "error" if share >= ERROR_SHARE else "warning"
        flaws.append(_flaw(cause, log, level, file, tokens))
    flaws += duplicates(log, file, scale)
    flaws += _too_short(log, file, [m.found * scale for m in measured], server)
    served = _served_ratio(log)
    findable = 1 - computed / total if total else 0.0
    if served is not None and served < findable - SERVED_LESS:
        tokens = (findable - served) * total * scale / len(log)
        words = f"{served:.1%} of the prompt tokens, {findable:.1%} without limits"
        detail = f"{RULES[SERVED][0]}: {words}{_why(log, measured, scale)}"
        flaws.append(Flaw(SERVED, "warning", file, None, "usage", detail, tokens))
    flaws.sort(key=lambda f: -(f.tokens_per_request or 0))
    return LogReport(
        len(log), total * scale, computed * scale, (computed - lost) * scale, flaws, served
    )


def _causes(log: Sequence[Seen], places: Sequence[Sequence[Divergence]]) -> list[_Cause]:
    """Divergences by cause and kind of place. A request pays once for each."""
    namer = Namer(log)
    causes: dict[tuple[str, str], _Cause] = {}
    for of_request in places:
        messages: set[str] = set()
        for place in of_request:
            named = namer.name(place)
            message = named.path.split(".")[0]
            if message in messages:
                continue  # what else is other in it has the same cause
            messages.add(message)
            key = (
                "" if named.rule in GENERAL else named.rule,
                "" if named.rule in ANYWHERE else _kind_of_place(named.path),
            )
            cause = causes.setdefault(key, _Cause(named, place.request))
            cause.lost[place.request] = max(cause.lost[place.request], place.lost)
    return list(causes.values())


def _kind_of_place(path: str) -> str:
    """The path without the numbers of turns: what stands there in every conversation."""
    if path.startswith(TOOLS):
        return "tools"
    return re.sub(r"\[[1-9]\d*\]", "[*]", path)


def _is_of_tenants(cause: _Cause, requests: int, share: float) -> bool:
    """Whether only the first request of each text pays, and not much."""
    recurs = requests >= RECURRING * (len(cause.lost) + 1)
    return cause.named.rule in OF_TENANTS and recurs and share < RECURRING_SHARE


def _flaw(cause: _Cause, log: Sequence[Seen], level: Level, file: str, tokens: float) -> Flaw:
    """Located at the first request that pays for it."""
    named = cause.named
    detail = f"{RULES[named.rule][0]}{f' ({named.more})' if named.more else ''}: "
    detail += f"{named.now!r} (before: {named.before!r})"
    line = log[cause.first].line
    return Flaw(named.rule, level, file, line, named.path, detail, tokens, named.bound)


def _too_short(
    log: Sequence[Seen], file: str, found_tokens: Sequence[float], server: Server
) -> Iterator[Flaw]:
    """What requests share is too short for the server that they go to."""
    short = [t for t in found_tokens if t > 0 and not server.found(t)]
    if len(short) <= STATIC_SHARE * len(log):
        return
    tokens = sum(short) / len(log)
    words = (
        f"the provider caches from {server.minimum_tokens} tokens on"
        if server.minimum_tokens > server.block_tokens
        else f"not one block of {server.block_tokens} is full"
    )
    typical = sorted(short)[len(short) // 2]
    detail = f"{RULES['short-prefix'][0]}: {typical:,.0f} tokens are shared, and {words}"
    first = next(r for r in log if r.parts)
    yield Flaw("short-prefix", "warning", file, first.line, first.parts[0][0], detail, tokens)


def _served_ratio(log: Sequence[Seen]) -> float | None:
    known = [
        r.served for r in log
        if r.served and r.served.cached_tokens is not None and r.served.prompt_tokens
    ]  # fmt: skip
    if 2 * len(known) < len(log) or not known:
        return None
    prompts = sum(s.prompt_tokens or 0 for s in known)
    return sum(s.cached_tokens or 0 for s in known) / prompts


def _why(log: Sequence[Seen], measured: Sequence[Measured], scale: float) -> str:
    """What was found less after how long a rest: behind a lifetime it has expired; else it was
    evicted, or lies on another replica, which nobody can tell apart by a log. Empty without
    times."""
    expired = other = 0.0
    for request, m in zip(log, measured, strict=True):
        cached = request.served.cached_tokens if request.served else None
        before = log[m.owner] if m.owner is not None else None
        if cached is None or before is None or request.at_s is None or before.at_s is None:
            continue
        less = max(0.0, m.found * scale - cached)
        if request.at_s - before.at_s > LIFETIME_S:
            expired += less
        else:
            other += less
    if not expired + other:
        return ""
    share = expired / (expired + other)
    return (
        f"; {share:.0%} of it after more than {LIFETIME_S:g} s of rest (expired), the rest sooner"
    )


def duplicates(log: Sequence[Seen], file: str, tokens_per_character: float) -> list[Flaw]:
    """Paragraphs that stand twice in what most requests begin with. A cache finds both: they cost
    room in it and in the context, every request."""
    twice: dict[str, tuple[int, Seen, str]] = {}
    for request in log:
        for name, paragraph in _repeated(request):
            count, first, field = twice.get(paragraph, (0, request, name))
            twice[paragraph] = (count + 1, first, field)
    flaws = []
    for paragraph, (count, first, field) in twice.items():
        if count >= max(2, STATIC_SHARE * len(log)):
            tokens = len(paragraph) * tokens_per_character * count / len(log)
            detail = f"{RULES[DUPLICATE][0]}: {paragraph[:50]!r}"
            flaws.append(Flaw(DUPLICATE, "warning", file, first.line, field, detail, tokens))
    return flaws


def _repeated(request: Seen) -> Iterator[tuple[str, str]]:
    """(field, paragraph) of the long paragraphs that stand above already."""
    seen: set[str] = set()
    for name, text in request.parts:
        if ".content" not in name and not name.startswith(("system", "instructions")):
            continue
        for paragraph in _paragraphs(text):
            if paragraph in seen:
                yield name, paragraph
            seen.add(paragraph)


@lru_cache(maxsize=4096)
def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(
        " ".join(words)
        for p in re.split(r"\n\s*\n", text)
        if len(words := p.split()) >= MIN_DUPLICATE_WORDS
    )
