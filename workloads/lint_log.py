"""Lint a request log: measured, not guessed.

Every rule has a correction. The prefix tree of the log with all corrections is the ideal; leaving
one correction out says what that flaw alone costs. Costs overlap where two flaws stand in one
place: mending only one of them gains nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from workloads.corrections import CORRECTIONS
from workloads.flaw import RULES, Flaw
from workloads.prefix_tree import characters, shared_characters
from workloads.request_log import Logged

MIN_SHARE = 0.01
MIN_TOKENS = 8.0
"""A flaw that costs less, per request, is not worth a line."""


@dataclass(frozen=True, slots=True)
class LogReport:
    """Tokens of the log (estimated from characters), and what the flaws keep from the cache."""

    requests: int
    tokens: float
    shared_tokens: float
    ideal_tokens: float
    """Shared when every flaw is mended."""
    flaws: list[Flaw]


def lint(log: Sequence[Logged], file: str, tokens_per_character: float) -> LogReport:
    """All flaws of a log, the dearest first."""
    total = sum(map(characters, log))
    actual = sum(shared_characters(log))
    active = _active(log)
    ideal = sum(shared_characters(_apply(log, active)))
    flaws = []
    least = max(MIN_SHARE * total / len(log), MIN_TOKENS / tokens_per_character)
    for rule in active:
        without = sum(shared_characters(_apply(log, [r for r in active if r != rule])))
        per_request = (ideal - without) / len(log)
        if per_request >= least:
            flaws.append(_flaw(rule, log, file, per_request * tokens_per_character))
    flaws.sort(key=lambda f: -(f.tokens_per_request or 0))
    scale = tokens_per_character
    return LogReport(len(log), total * scale, actual * scale, ideal * scale, flaws)


def _active(log: Sequence[Logged]) -> list[str]:
    """Rules whose correction changes anything, alone."""
    return [rule for rule, correct in CORRECTIONS.items() if correct(log) != list(log)]


def _apply(log: Sequence[Logged], rules: Sequence[str]) -> Sequence[Logged]:
    for rule in rules:
        correct: Callable[[Sequence[Logged]], list[Logged]] = CORRECTIONS[rule]
        log = correct(log)
    return log


def _flaw(rule: str, log: Sequence[Logged], file: str, tokens: float) -> Flaw:
    """Located at the first request that the correction changes."""
    corrected = CORRECTIONS[rule](log)
    number = next(i for i, (a, b) in enumerate(zip(log, corrected, strict=True)) if a != b)
    field, before, after = _first_difference(log[number], corrected[number])
    detail = f"{RULES[rule][0]}: {before!r} (corrected: {after!r})" if field else RULES[rule][0]
    return Flaw(rule, "error", file, log[number].line, field, detail, tokens)


def _first_difference(old: Logged, new: Logged) -> tuple[str | None, str, str]:
    for (field, a), (_, b) in zip(old.fields(), new.fields(), strict=False):
        if a != b:
            at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), 0)
            start = max(0, at - 20)
            return field, a[start : at + 30], b[start : at + 20]
    return ("cache_salt", old.key, new.key) if old.key != new.key else (None, "", "")
