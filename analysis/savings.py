"""What a compiled prompt saves: tokens, money on hosted APIs, seconds on own hardware. Arithmetic
only; every assumption is in the result.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UsageError
from configs.pricing import ModelPrice

DAY_S = 86_400
WORTH_IT_TOKENS = 500
WORTH_IT_PER_DAY = 100


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of one prompt at `requests` a day. `rounding`: static, but behind the last full block."""

    requests: int
    static: int
    rounding: int
    dynamic: int

    @property
    def static_per_day(self) -> int:
        """What JIT pays for the static part."""
        return self.static * self.requests

    @property
    def saved_per_day(self) -> int:
        """What need not be processed once the prefix is there."""
        return (self.static - self.rounding) * self.requests


@dataclass(frozen=True, slots=True)
class Money:
    """US dollars a day for prompt tokens. `misses_per_day`: requests that find the prefix expired,
    with arrivals at random (Poisson): requests · exp(−ttl / mean gap)."""

    jit_per_day: float
    aot_per_day: float
    misses_per_day: float
    break_even: int | None
    """Requests within one TTL from which caching is the cheaper one; None: never."""


def money(tokens: Tokens, price: ModelPrice, ttl_s: float) -> Money:
    """Prompt tokens at full price, beside the static part written and read and the rest at full
    price. Block rounding is the engine's own: hosted APIs count their cached tokens exactly."""
    n = tokens.requests
    misses = min(float(n), max(1.0, n * math.exp(-ttl_s * n / DAY_S)))
    static, dynamic = tokens.static / 1e6, tokens.dynamic / 1e6
    # Kept all day when it is never left to expire, else for one TTL after each time.
    hours = 24.0 if misses <= 1 else min(24.0, misses * ttl_s / 3600)
    storage = static * price.storage_per_hour * hours
    jit = n * (static + dynamic) * price.input
    aot = misses * static * price.write + (n - misses) * static * price.read
    return Money(
        jit_per_day=jit,
        aot_per_day=aot + n * dynamic * price.input + storage,
        misses_per_day=misses,
        break_even=break_even(price, ttl_s),
    )


def break_even(price: ModelPrice, ttl_s: float) -> int | None:
    """The smallest n with write + (n − 1) · read + storage of one TTL < n · input."""
    if price.read >= price.input:
        return None
    storage = price.storage_per_hour * ttl_s / 3600
    exact = (price.write - price.read + storage) / (price.input - price.read)
    return max(1, math.floor(exact) + 1) if exact >= 1 else 1


def seconds_per_token(run: Path) -> float:
    """Seconds of prefill that one cached token saved in a measured run: the difference of the
    median TTFTs of jit and aot over the cached tokens of a request.

    Raises UsageError when the run has not both arms, or several servers.
    """
    try:
        arms: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))[
            "arms"
        ]
        jit, aot = (arms[a]["ttft_s"]["p50"] for a in ("jit", "aot"))
        cached = arms["aot"]["cache"]["cached_tokens"] / arms["aot"]["requests"]["ok"]
        return float((jit - aot) / cached)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        raise UsageError(
            f"{run}: no measured run of one server with answered requests in jit and aot"
        ) from None


def advice(tokens: Tokens, least_tokens: int, paid: Money | None) -> tuple[bool, list[str]]:
    """Whether to compile ahead of time, and the numbers that decided."""
    reasons = []
    worth = True
    least = max(WORTH_IT_TOKENS, least_tokens)
    for ok, words in (
        (tokens.static >= least, f"length: {tokens.static:,} static tokens, from {least:,} on"),
        (
            tokens.requests >= WORTH_IT_PER_DAY,
            f"volume: {tokens.requests:,} requests a day, from {WORTH_IT_PER_DAY} on",
        ),
        (
            paid is None or paid.aot_per_day < paid.jit_per_day,
            "cost: "
            + (
                "own hardware, nothing to pay for"
                if paid is None
                else f"{paid.aot_per_day:,.2f} a day instead of {paid.jit_per_day:,.2f}"
            ),
        ),
    ):
        worth = worth and ok
        reasons.append(("yes, " if ok else "no, ") + words)
    reasons.append(
        "stability: for you to see to: aot compile --check fails when the prompt changes"
    )
    return worth, reasons
