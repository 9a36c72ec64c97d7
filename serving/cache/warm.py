"""Compile static prefixes into a server's cache ahead of time, and verify that they hit.

Each prefix is prefilled by one request with one output token, then probed by a second one with
another dynamic part: its cached tokens must be all the full blocks of the static part. A cache that
keeps windows or states learns from the second request only where the two part, so that a third one
is the probe.

Behind a router that keeps a prefix on one replica, its owner is warmed, through the router; behind
any other one every replica is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from aot.configs.caches.rule import CacheRule
from aot.configs.kernel.errors import CacheStateError
from aot.configs.kernel.together import together
from aot.serving.client.chat import Message, Tools, Usage, shown_zeros
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine
from aot.serving.engines.table import ENGINES
from aot.serving.metrics.counters import CacheFacts


@dataclass(frozen=True, slots=True)
class StaticPrefix:
    """A prefix to warm: full prompts that share it and differ after it, to be sent in this order;
    the third one is needed for some caches only.

    static_tokens: length of their common token prefix; None where no tokenizer is at hand.
    """

    id: str
    prompts: tuple[list[Message], list[Message], list[Message]]
    static_tokens: int | None
    tools: Tools = ()
    salt: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of the chat template, where its requests have some."""


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
    fills: int = 1
    """Requests that filled the cache, before the one that was found."""
    block_tokens: int | None = None
    """Of the server's cache."""

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
    facts = engine.cache_facts(endpoint.page(engine))
    if not endpoint.replicas or endpoint.keeps_owners:
        return _warm(endpoint, prefixes, facts, report)
    return [
        replace(done, replica=number)
        for number, replica in enumerate(endpoint.each())
        for done in _warm(replica, prefixes, facts, report)
    ]


def _warm(
    endpoint: Endpoint,
    prefixes: Sequence[StaticPrefix],
    facts: CacheFacts,
    report: Callable[[str], None],
) -> list[Warmed]:
    def fill(numbered: tuple[int, StaticPrefix]) -> float:
        number, prefix = numbered
        report(f"compiling prefix {number} of {len(prefixes)} into the cache: {prefix.id}")
        started = time.monotonic()
        _ask(endpoint, prefix, 0)
        return time.monotonic() - started

    # As many at a time as there are replicas: one after the other, a router sees no load and sends
    # them all to its first one.
    seconds = together(fill, enumerate(prefixes, 1), max(len(endpoint.replicas), 1))
    return verify(endpoint, prefixes, facts, seconds, report)


def _ask(endpoint: Endpoint, prefix: StaticPrefix, which: int) -> Usage:
    """One of its prompts, worded as its requests are."""
    if prefix.arguments:
        endpoint = endpoint.with_fields({"chat_template_kwargs": dict(prefix.arguments)})
    return endpoint.chat(prefix.prompts[which], 1, prefix.salt, prefix.tools, prefix.id)


def verify(
    endpoint: Endpoint,
    prefixes: Sequence[StaticPrefix],
    facts: CacheFacts,
    prefill_s: Sequence[float],
    report: Callable[[str], None],
) -> list[Warmed]:
    """Probe prefixes that were filled once, which took `prefill_s`: are all their full blocks
    found?

    Where the rule of the cache wants a second filling, or is unknown and the first probes find too
    little, those were it, and all are probed again.
    """
    fills, taken_s = facts.rule.fills if facts.rule else 1, list(prefill_s)
    for which in (1, 2):
        usages = []
        for number, prefix in enumerate(prefixes, 1):
            doing = "verifying" if which >= fills else "filling once more"
            report(f"{doing} prefix {number} of {len(prefixes)}: {prefix.id}")
            started = time.monotonic()
            usages.append(_ask(endpoint, prefix, which))
            taken_s[number - 1] += time.monotonic() - started if which < fills else 0.0
        warmed = [
            _judge(prefix, usage, facts.reuse, seconds, which)
            for prefix, usage, seconds in zip(prefixes, shown_zeros(usages), taken_s, strict=True)
        ]
        settled = facts.rule or all(w.verified or w.cached_tokens is None for w in warmed)
        if which >= fills and settled:
            break
    return warmed


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
    if short := [w for w in cold if w.expected_tokens == 0]:
        first = short[0]
        why = (
            f"its {first.static_tokens} static tokens are shorter than a block of "
            f"{first.block_tokens}: nothing of it can be found again"
        )
        if (first.static_tokens or 0) >= (first.block_tokens or 1):
            why = (
                "all layers of this model see a window, or keep a state, only, and vLLM keeps "
                "those at the ends of whole prompts: start it with a retention interval "
                "(--prefix-cache-retention-interval)"
            )
    elif all(w.cached_tokens is None for w in cold):
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
    prefix: StaticPrefix, usage: Usage, rule: CacheRule | None, prefill_s: float, fills: int
) -> Warmed:
    expected = None
    static, prompt = prefix.static_tokens, usage.prompt_tokens
    if rule and static is not None and prompt is not None:
        expected = rule.expected_tokens(static, prompt)
    cached = usage.cached_tokens
    # Without a tokenizer nobody knows the exact count; a hit at all is what can be seen then.
    # More than expected is no fault: the probe itself may be in the cache from an earlier warming.
    verified = bool(cached) if expected is None else 0 < expected <= (cached or 0)
    block = rule.block_tokens if rule else None
    return Warmed(
        prefix.id, prefix.static_tokens, expected, cached, prefill_s, verified, None, fills, block
    )


def _count(tokens: int | None) -> str:
    return "unreported" if tokens is None else str(tokens)
