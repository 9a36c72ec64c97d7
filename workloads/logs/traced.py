"""One request of a trace: what is known of it, which differs from format to format."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aot.workloads.requests.request import Message, Served


@dataclass(frozen=True, slots=True)
class Traced:
    """`at_s`: seconds since the trace began, or since an epoch of its own; None: not recorded.

    `blocks` are names of prompt blocks, equal where prompts are equal up to there; `parts` are
    (kind, name, tokens) of prompts in parts that may come in any order. `parent` is the session of
    the turn before, where every turn is a session of its own.
    """

    line: int
    at_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    session: str | None = None
    parent: str | None = None
    joins: tuple[str, ...] = ()
    """Sessions of one turn each that must be over as well, before this is sent."""
    blocks: Sequence[Hashable] = ()
    answer_blocks: Sequence[Hashable] = ()
    """Those behind the prompt's, that are full with the answer."""
    parts: Sequence[tuple[str, int, int]] = ()
    messages: tuple[Message, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    endpoint: str = "chat"
    body: Mapping[str, Any] | None = None
    """What was sent, as it was logged, for that kind of endpoint; `messages` and `tools` are the
    same, for who counts tokens. None: it was not logged."""
    answer: str | None = None
    """The text of the recorded answer, whose tokens nobody counted."""
    duration_s: float | None = None
    """From the sending to the end of the answer."""
    served: Served | None = None
    """What the server counted, where the log has that."""
    think_s: float = 0.0
    """From the answer to the turn before until it was sent, where the log says that."""


MOST_TOKENS = 1 << 31
"""A length above is no length of a prompt."""


def count(row: dict[str, Any], field: str, least: int = 0) -> int:
    """A number of tokens in `row`; ValueError naming the field."""
    value = row[field]
    if type(value) is int and least <= value < MOST_TOKENS:
        return value
    number = _finite(value)
    if number is None:
        raise ValueError(f"field '{field}' is {_short(value)}, expected a number of tokens")
    if not number.is_integer() or not least <= number < MOST_TOKENS:
        raise ValueError(
            f"field '{field}' is {_short(value)}, expected an integer of {least} or more"
        )
    return int(number)


def seconds(row: dict[str, Any], field: str, per_second: float = 1.0) -> float:
    """A time in `row`, in seconds; ValueError naming the field."""
    number = _finite(row[field])
    if number is None:
        raise ValueError(f"field '{field}' is {_short(row[field])}, expected a number")
    return number / per_second


def _finite(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _short(value: Any) -> str:
    return repr(value)[:60]
