"""Compile static prefixes into a server's cache ahead of time, and verify that they hit.

Each prefix is prefilled by one request with one output token, then probed by a second one with
another dynamic part: its cached tokens must be all the full blocks of the static part.

Behind a router that keeps a prefix on one replica, its owner is warmed, through the router; behind
any other one every replica is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from aot.configs.kernel.errors import CacheStateError
from aot.configs.kernel.together import together
from aot.serving.client.chat import Message, Tools, Usage, shown_zeros
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine
from aot.serving.engines.table import ENGINES


@dataclass(frozen=True, slots=True)
class StaticPrefix:
    """A prefix to warm: two full prompts that share it and differ after it.

    static_tokens: length of their common token prefix; None where no tokenizer is at hand.
    """

    id: str
    fill: list[Message]
    probe: list[Message]
    static_tokens: int | None
    tools: Tools = ()
    salt: str | None = None


@dataclass(frozen=True, slots=True)
class Warmed:
    """What warming one prefix did. `expected_tokens` is None where it could not be computed."""

    id: str
    static_tokens: int | None
    expected_tokens: int | None
    cached_tokens: int | None
    prefill_s: float
    verified: bool
    replica: int | None = None
    """Which one, where each replica is warmed."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def warm(
    endpoint: Endpoint,
    engine: Engine,
    prefixes: Sequence[StaticPrefix],
    report: Callable[[str], None],
) -> list[Warmed]:
    """Prefill every prefix, then verify every prefix (so that one which evicts another shows).

    Where the server does not say its block size, a hit at all is what is verified.
    """
    block = engine.cache_facts(endpoint.page(engine)).block_tokens
    if not endpoint.replicas or endpoint.keeps_owners:
        return _warm(endpoint, engine, prefixes, block, report)
    return [
        replace(done, replica=number)
        for number, replica in enumerate(endpoint.each())
        for done in _warm(replica, engine, prefixes, block, report)
    ]


def _warm(
    endpoint: Endpoint,
    engine: Engine,
    prefixes: Sequence[StaticPrefix],
    block: int | None,
    report: Callable[[str], None],
) -> list[Warmed]:
    def fill(numbered: tuple[int, StaticPrefix]) -> float:
        number, prefix = numbered
        report(f"compiling prefix {number} of {len(prefixes)} into the cache: {prefix.id}")
        started = time.monotonic()
        endpoint.chat(prefix.fill, 1, prefix.salt, prefix.tools, prefix.id)
        return time.monotonic() - started

    # As many at a time as there are replicas: one after the other, a router sees no load and sends
    # them all to its first one.
    seconds = together(fill, enumerate(prefixes, 1), max(len(endpoint.replicas), 1))
    return verify(endpoint, engine, prefixes, block, seconds, report)


def verify(
    endpoint: Endpoint,
    engine: Engine,
    prefixes: Sequence[StaticPrefix],
    block: int | None,
    prefill_s: Sequence[float],
    report: Callable[[str], None],
) -> list[Warmed]:
    """Probe prefixes that were filled, which took `prefill_s`: are all their full blocks found?"""
    usages = []
    for number, prefix in enumerate(prefixes, 1):
        report(f"verifying prefix {number} of {len(prefixes)}: {prefix.id}")
        usages.append(endpoint.chat(prefix.probe, 1, prefix.salt, prefix.tools, prefix.id))
    return [
        _judge(prefix, usage, engine, block, seconds)
        for prefix, usage, seconds in zip(prefixes, shown_zeros(usages), prefill_s, strict=True)
    ]


def _reporting() -> str:
    """How each engine is told to report them."""
    how = (f"{e.title}: {e.reports_cached_by}" for e in ENGINES.values() if e.reports_cached_by)
    return f"start it with the flag for it: {', '.join(how)}"


def insist(warmed: Sequence[Warmed]) -> None:
    """Raise CacheStateError naming every prefix that is not verified, and what was seen."""
    cold = [w for w in warmed if not w.verified]
    if not cold:
        return
    first = cold[0]
    if all(w.cached_tokens is None for w in cold):
        why = (
            "the server reports no cached tokens per request, so a hit cannot be proved "
            f"({_reporting()})"
        )
    elif all(w.cached_tokens == 0 for w in cold):
        why = (
            "no token was cached: is prefix caching on, is the prefix longer than one block, and "
            "do all requests carry the same cache salt?"
        )
    elif len(cold) < len(warmed):
        why = "the others hit: these were evicted, the KV cache is too small for all prefixes"
    else:
        why = "only a part was cached: the KV cache may be too small for all prefixes"
    seen, expected = _count(first.cached_tokens), _count(first.expected_tokens)
    raise CacheStateError(
        f"{len(cold)} of {len(warmed)} static prefixes are not in the cache, e.g. {first.id}: "
        f"{seen} cached tokens, expected {expected}; {why}"
    )


def _judge(
    prefix: StaticPrefix, usage: Usage, engine: Engine, block: int | None, prefill_s: float
) -> Warmed:
    expected = None
    static, prompt = prefix.static_tokens, usage.prompt_tokens
    if block and static is not None and prompt is not None:
        expected = engine.expected_cached_tokens(static, prompt, block)
    cached = usage.cached_tokens
    # Without a tokenizer nobody knows the exact count; a hit at all is what can be seen then.
    # More than expected is no fault: the probe itself may be in the cache from an earlier warming.
    verified = bool(cached) if expected is None else 0 < expected <= (cached or 0)
    return Warmed(prefix.id, prefix.static_tokens, expected, cached, prefill_s, verified)


def _count(tokens: int | None) -> str:
    return "unreported" if tokens is None else str(tokens)
