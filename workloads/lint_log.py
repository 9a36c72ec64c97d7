"""Lint a request log: measured, not guessed.

Every rule has a correction. The prefix tree of the log with all corrections is the ideal. A flaw
costs what is gained by mending it first, or last, whichever is more; so costs overlap where two
flaws stand in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from workloads.corrections import CORRECTIONS
from workloads.flaw import RULES, Flaw
from workloads.prefix_tree import characters, computed_characters
from workloads.request_log import Logged

MIN_SHARE = 0.01
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
    alone = {rule: made for rule, correct in CORRECTIONS.items() if (made := correct(log)) != log}
    ideal = computed_characters(_apply(log, alone))
    flaws = []
    least = max(MIN_SHARE * total / len(log), MIN_TOKENS / tokens_per_character)
    for rule, made in alone.items():
        others = [r for r in alone if r != rule]
        # Two flaws in one place: only mending both gains. Two that multiply: mending either does.
        last = computed_characters(_apply(log, others)) - ideal
        first = actual - computed_characters(made) if others else last
        per_request = max(first, last) / len(log)
        if per_request >= least:
            tokens = per_request * tokens_per_character
            flaws.append(_flaw(rule, log, made, file, tokens))
    flaws.sort(key=lambda f: -(f.tokens_per_request or 0))
    scale = tokens_per_character
    return LogReport(len(log), total * scale, actual * scale, min(actual, ideal) * scale, flaws)


def _apply(log: Sequence[Logged], rules: Iterable[str]) -> Sequence[Logged]:
    for rule in rules:
        correct: Callable[[Sequence[Logged]], list[Logged]] = CORRECTIONS[rule]
        log = correct(log)
    return log


def _flaw(
    rule: str, log: Sequence[Logged], corrected: Sequence[Logged], file: str, tokens: float
) -> Flaw:
    """Located at the first request that the correction changes."""
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
