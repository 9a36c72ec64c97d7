"""Lint a request log: measured, not guessed.

Every rule has a correction. The prefix tree of the log with all corrections is the ideal. A flaw
costs what is gained by mending it first, or last, whichever is more; so costs overlap where two
flaws stand in one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from aot.workloads.lint.corrections import CORRECTIONS, STATIC_SHARE
from aot.workloads.lint.flaw import MIN_DUPLICATE_WORDS, RULES, Flaw, Level
from aot.workloads.lint.prefix_tree import characters, computed_characters
from aot.workloads.traces.request_log import Logged

MIN_SHARE = 0.01
ERROR_SHARE = 0.05
VARYING = "varying-text"
GENERAL = ("dynamic-first", VARYING)
DUPLICATE = "duplicate-text"
MIN_TOKENS = 8.0
"""A flaw that costs less, per request, is not worth a line."""


@dataclass(frozen=True, slots=True)
class LogReport:
    """Tokens of the log (estimated from characters), and what the flaws make the server compute."""

    requests: int
    tokens: float
    computed_tokens: float
    """What an unbounded cache does not find."""
    ideal_tokens: float
    """Computed when every flaw is mended."""
    flaws: list[Flaw]


def lint(log: Sequence[Logged], file: str, tokens_per_character: float) -> LogReport:
    """All flaws of a log, the dearest first."""
    total = sum(map(characters, log))
    actual = computed_characters(log)
    alone = {
        rule: corrected
        for rule, correct in CORRECTIONS.items()
        if (corrected := correct(log)) != log
    }
    ideal = computed_characters(_apply(log, alone))
    flaws = []
    least = max(MIN_SHARE * total / len(log), MIN_TOKENS / tokens_per_character)
    for rule, corrected in alone.items():
        peers = _peers(rule, alone)
        # Two flaws in one place: only mending both gains. Two that multiply: mending either does.
        mended = computed_characters(_apply(log, peers))
        last = computed_characters(_apply(log, [r for r in peers if r != rule])) - mended
        first = last if rule == VARYING else actual - computed_characters(corrected)
        per_request = max(first, last) / len(log)
        if per_request >= least:
            tokens = per_request * tokens_per_character
            level: Level = "error" if per_request >= ERROR_SHARE * total / len(log) else "warning"
            flaws.append(_flaw(rule, level, log, corrected, file, tokens))
    flaws += duplicates(log, file, tokens_per_character)
    flaws.sort(key=lambda f: -(f.tokens_per_request or 0))
    scale = tokens_per_character
    return LogReport(len(log), total * scale, actual * scale, min(actual, ideal) * scale, flaws)


def duplicates(log: Sequence[Logged], file: str, tokens_per_character: float) -> list[Flaw]:
    """Paragraphs that stand twice in what most requests begin with. A cache finds both: they cost
    room in it and in the context, every request."""
    twice: dict[str, tuple[int, Logged, str]] = {}
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


def _repeated(request: Logged) -> Iterator[tuple[str, str]]:
    """(field, paragraph) of the long paragraphs that stand above already."""
    seen: set[str] = set()
    for name, text in request.fields():
        if not name.endswith(".content"):
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


def _peers(rule: str, active: Iterable[str]) -> list[str]:
    """The rules beside which a rule is judged: a specific one beside specific ones, so that text
    that merely changes is named only where nothing else explains it."""
    general = () if rule == VARYING else tuple(g for g in GENERAL if g != rule)
    return [r for r in active if r not in general]


def _apply(log: Sequence[Logged], rules: Iterable[str]) -> Sequence[Logged]:
    for rule in rules:
        correct: Callable[[Sequence[Logged]], list[Logged]] = CORRECTIONS[rule]
        log = correct(log)
    return log


def _flaw(
    rule: str,
    level: Level,
    log: Sequence[Logged],
    corrected: Sequence[Logged],
    file: str,
    tokens: float,
) -> Flaw:
    """Located at the first request that the correction changes."""
    number = next(i for i, (a, b) in enumerate(zip(log, corrected, strict=True)) if a != b)
    field, before, after = _first_difference(log[number], corrected[number])
    detail = f"{RULES[rule][0]}: {before!r} (corrected: {after!r})" if field else RULES[rule][0]
    return Flaw(rule, level, file, log[number].line, field, detail, tokens)


def _first_difference(old: Logged, new: Logged) -> tuple[str | None, str, str]:
    for (field, a), (_, b) in zip(old.fields(), new.fields(), strict=False):
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
            start = max(0, at - 20)
            return field, a[start : at + 30], b[start : at + 20]
    return ("cache_salt", old.key, new.key) if old.key != new.key else (None, "", "")
