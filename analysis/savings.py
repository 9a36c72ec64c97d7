"""What a compiled prompt saves: tokens, money on hosted APIs, seconds on own hardware. Arithmetic
only; every assumption is in the result.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.pricing import ModelPrice

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
    """US dollars a day for prompt tokens. `misses_per_day`: requests that find the prefix gone."""

    jit_per_day: float
    aot_per_day: float
    misses_per_day: float
    break_even: int | None
    """Requests within one TTL from which caching is the cheaper one; None: never."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a prefix stays: `ttl_s` from its last use, or (not `renewed`) from when it was
    written. `step_tokens`: cached tokens are counted in steps of this."""

    ttl_s: float
    renewed: bool = True
    step_tokens: int = 1

    def misses(self, requests: int) -> float:
        """Requests of a day that find it gone, with arrivals at random (Poisson at rate r):
        n · exp(−r · ttl) where use renews it, n / (1 + r · ttl) where it does not."""
        due = requests * self.ttl_s / DAY_S
        gone = requests * math.exp(-due) if self.renewed else requests / (1 + due)
        return min(float(requests), max(1.0, gone))

    def hours(self, requests: int) -> float:
        """Hours of a day in which it is stored."""
        due = requests * self.ttl_s / DAY_S
        if self.renewed:
            return 24 * (1 - math.exp(-due))
        return min(24.0, self.misses(requests) * self.ttl_s / 3600)


def money(tokens: Tokens, price: ModelPrice, life: Lifetime) -> Money:
    """Prompt tokens at full price, beside the static part written and read and the rest at full
    price. Block rounding is the engine's own; a hosted API's steps are in `life`."""
    n = tokens.requests
    misses = life.misses(n)
    kept = tokens.static // life.step_tokens * life.step_tokens
    cached, rest = kept / 1e6, (tokens.static - kept + tokens.dynamic) / 1e6
    aot = misses * cached * price.write + (n - misses) * cached * price.read
    return Money(
        jit_per_day=n * (cached + rest) * price.input,
        aot_per_day=aot + n * rest * price.input + cached * price.storage_per_hour * life.hours(n),
        misses_per_day=misses,
        break_even=break_even(price, life.ttl_s),
    )


def break_even(price: ModelPrice, ttl_s: float) -> int | None:
    """The smallest n with write + (n − 1) · read + storage of one TTL < n · input."""
    if price.read >= price.input:
        return None
    storage = price.storage_per_hour * ttl_s / 3600
    exact = (price.write - price.read + storage) / (price.input - price.read)
    return max(1, math.floor(exact) + 1) if exact >= 1 else 1


def seconds_per_token(run: Path) -> float:
    """Seconds of prefill that one cached token saved in a measured run, against no caching at all:
    the difference of the median TTFTs of jit and aot over the cached tokens of a request.

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


def against_default(run: Path) -> tuple[int, int, float] | None:
    """What compiling saves where caching is on already, as it is by default: cold requests of auto,
    of how many, and the seconds that one of them waits longer; None where it was not measured."""
    try:
        text = (run / "summary.json").read_text(encoding="utf-8")
        cold = json.loads(text)["answers"]["compiling"]["cold"]
        return int(cold["requests"]), int(cold["of"]), float(cold["extra_s"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def advice(
    tokens: Tokens, least_tokens: int, paid: Money | None, hosted: bool = False
) -> tuple[bool, list[str]]:
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
            not hosted if paid is None else paid.aot_per_day < paid.jit_per_day,
            _cost(paid, hosted),
        ),
    ):
        worth = worth and ok
        reasons.append(("yes, " if ok else "no, ") + words)
    reasons.append(
        "stability: for you to see to: aot compile --check fails when the prompt changes"
    )
    return worth, reasons


def _cost(paid: Money | None, hosted: bool) -> str:
    if paid is not None:
        return f"cost: {paid.aot_per_day:,.2f} a day instead of {paid.jit_per_day:,.2f}"
    return "cost: the same with and without" if hosted else "cost: own hardware, none for caching"
