"""`aot warm COMPILED...`: compiled prompts into the caches of servers, proved, and kept there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aot.configs.kernel.errors import CacheStateError, EndpointError
from aot.configs.kernel.together import together
from aot.scripts.terminal import note
from aot.serving.cache import warm
from aot.serving.cache.arrivals import Arrivals
from aot.serving.cache.residency import Residency
from aot.serving.cache.warm import StaticPrefix, Warmed
from aot.serving.client.detect import detect
from aot.serving.client.endpoint import Endpoint
from aot.serving.client.kv_events import Subscription
from aot.serving.engines import block_hashes
from aot.serving.engines.engine import Engine
from aot.serving.metrics.counters import CacheFacts
from aot.workloads.prompts.compiled import Compiled
from aot.workloads.requests.request import Message
from aot.workloads.requests.tokens import common_prefix

MAX_AT_ONCE = 4
LONGEST_IDLE_S = 120.0
SHORTEST_IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """One server with what it says of its cache."""

    endpoint: Endpoint
    engine: Engine
    facts: CacheFacts

    @property
    def capacity_tokens(self) -> int | None:
        return self.facts.capacity_tokens


def place(endpoint: Endpoint) -> Place:
    """Ask a server what it is."""
    engine = detect(endpoint)
    return Place(endpoint, engine, engine.cache_facts(endpoint.page(engine)))


def prefix_of(compiled: Compiled) -> StaticPrefix:
    """What is sent for a compiled prompt: one probe fills, the other verifies."""
    return StaticPrefix(
        compiled.id,
        (compiled.chat(0), compiled.chat(1), compiled.chat(2)),
        compiled.static_tokens,
        tuple(compiled.tools),
        compiled.cache_salt,
        compiled.template_arguments,
    )


def in_order(prompts: Sequence[Compiled]) -> list[Compiled]:
    """Those that share a beginning next to each other, so that it is filled once and is still
    there for the next."""
    return sorted(prompts, key=lambda c: (c.cache_salt or "", c.static_token_ids))


def needed_tokens(prompts: Sequence[Compiled]) -> int:
    """What they all take in a cache: full blocks, shared beginnings counted once, and the blocks
    in which the longest dynamic part is worked on."""
    total, before = 0, None
    for c in in_order(prompts):
        shared = 0
        if before is not None and before.cache_salt == c.cache_salt:
            shared = common_prefix(before.static_token_ids, c.static_token_ids)
        total += c.cached_tokens - shared // c.block_tokens * c.block_tokens
        before = c
    return total + max((c.rounding_tokens + c.dynamic_tokens.max for c in prompts), default=0)


def fitting(prompts: Sequence[Compiled], where: Place) -> list[Compiled]:
    """The first of `prompts` that fit into the cache together: to keep more would be to evict
    one for another for ever."""
    kept: list[Compiled] = []
    for c in prompts:
        if not where.capacity_tokens or needed_tokens([*kept, c]) <= where.capacity_tokens:
            kept.append(c)
        else:
            note(f"{where.endpoint.base_url}: no room for {c.id}: not kept warm")
    if not kept:
        raise CacheStateError(f"{where.endpoint.base_url}: its cache is too small for any of them")
    return kept


def check(prompts: Sequence[Compiled], where: Place) -> None:
    """CacheStateError for what can be known beforehand: caching off, other blocks, other tokens."""
    url = where.endpoint.base_url
    if where.facts.enabled is False:
        raise CacheStateError(f"{url}: prefix caching is off; start it with caching on")
    for c in prompts:
        block = where.facts.block_tokens
        if block and block != c.block_tokens:
            raise CacheStateError(
                f"{c.id} was compiled for blocks of {c.block_tokens} tokens, and {url} has blocks "
                f"of {block}; compile it with: aot compile ... --server {url}"
            )
        ids = where.endpoint.tokenize(c.chat(0), tuple(c.tools))
        if ids is not None and ids[: c.static_tokens] != c.static_token_ids:
            at = common_prefix(ids, c.static_token_ids)
            raise CacheStateError(
                f"{c.id}: template mismatch: {url} renders other tokens from token {at} on; is "
                f"'{where.endpoint.model}' the model it was compiled for ('{c.model}')?"
            )
    needed = needed_tokens(prompts)
    if where.capacity_tokens and needed > where.capacity_tokens:
        note(
            f"warning: {url}: the prompts need {needed:,} tokens of cache and it has "
            f"{where.capacity_tokens:,}: they cannot all stay; raise the cache size"
        )


def warm_all(
    prompts: Sequence[Compiled], where: Place, report: Callable[[str], None]
) -> list[Warmed]:
    """Fill all prefixes, several at once where they fit, then verify each."""
    ordered = in_order(prompts)
    at_once = _at_once(ordered, where)
    seconds = together(lambda c: fill(c, where), ordered, at_once)
    prefixes = [prefix_of(c) for c in ordered]
    return warm.verify(where.endpoint, prefixes, where.facts, seconds, report)


def warmed(prompts: Sequence[Compiled], where: Place) -> str:
    """All of them checked, filled and verified; what is there, in words. CacheStateError with the
    first that is not found."""
    check(prompts, where)
    filled = warm_all(prompts, where, lambda _: None)
    warm.insist(filled)
    tokens = sum(w.cached_tokens or 0 for w in filled)
    return f"{len(filled)} prefixes, {tokens:,} tokens, each verified"


def fill(compiled: Compiled, where: Place) -> float:
    """Prefill one prefix; seconds."""
    started = time.monotonic()
    chat, tools = compiled.chat(0), tuple(compiled.tools)
    where.endpoint.chat(chat, 1, compiled.cache_salt, tools)
    return time.monotonic() - started


def _at_once(prompts: Sequence[Compiled], where: Place) -> int:
    longest = max(c.static_tokens + c.dynamic_tokens.max for c in prompts)
    fit = (where.capacity_tokens or longest) // longest
    return max(1, min(MAX_AT_ONCE, fit, len(prompts)))


def chain(compiled: Compiled) -> list[int]:
    """The numbers by which KV events name its static blocks."""
    if compiled.block_hashes is None:
        raise CacheStateError(f"{compiled.id}: compiled without block hashes; compile it anew")
    return [block_hashes.event_id(bytes.fromhex(h)) for h in compiled.block_hashes.hashes]


def displaced(
    compiled: Compiled, prompts: Sequence[Compiled], arrivals: Arrivals, where: Place
) -> str:
    """Which traffic took the place of a prefix that was evicted, in words."""
    mine = {chain(c)[0] for c in prompts if c.full_blocks}
    most = arrivals.largest(but=mine)
    words = (
        f"{compiled.id} was displaced: {arrivals.total_tokens:,} tokens came in since it was filled"
    )
    if most is None:
        return f"{words}, all behind what is kept here"
    text = where.endpoint.detokenize(most.first_tokens) if most.first_tokens else None
    shown = f"beginning {' '.join(text.split())!r}" if text else "with one common beginning"
    return f"{words}, {most.share:.0%} of them in prompts {shown}"


def _touch(compiled: Compiled, where: Place, number: int) -> list[Message]:
    """What keeps a prefix in use. Where windows or states are kept, the same prompt again would
    find and hold its own end only, and not where others part from it."""
    chat = compiled.chat(1)
    if where.facts.rule is None or where.facts.rule.is_dense:
        return chat
    last = chat[-1]
    return [*chat[:-1], {**last, "content": f"{last['content']} {number}"}]


def watch_blind(
    prompts: Sequence[Compiled], where: Place, idle_s: float | None, number: int = 0
) -> str:
    """Round `number` without KV events: touch every prefix; a line of what was seen."""
    cold, started = [], time.monotonic()
    for c in in_order(prompts):
        chat = _touch(c, where, number)
        try:
            usage = where.endpoint.chat(chat, 1, c.cache_salt, tuple(c.tools))
        except EndpointError as error:
            return f"{where.endpoint.base_url}: {error}"
        if (usage.cached_tokens or 0) < c.cached_tokens:
            cold.append(c.id)
    took = time.monotonic() - started
    state = f"cold again: {', '.join(cold)}" if cold else "all warm"
    every = f", next in {idle_s:.0f} s" if idle_s else ""
    return f"{where.endpoint.base_url}: touched {len(prompts)} in {took:.1f} s, {state}{every}"


def idle_s(before: float | None, after: float | None, passed_s: float, where: Place) -> float:
    """How long the prefixes may be left alone: half the time in which the prompt tokens that were
    computed since (`after` − `before`) would fill the cache once. LRU evicts nothing earlier."""
    if before is None or after is None or not where.capacity_tokens or after <= before:
        return LONGEST_IDLE_S
    rate = (after - before) / passed_s
    half = where.capacity_tokens / rate / 2
    return max(SHORTEST_IDLE_S, min(LONGEST_IDLE_S, half))


def computed_tokens(where: Place) -> float | None:
    """Prompt tokens that the server computed, not found, since it started."""
    counters = where.engine.counters(where.endpoint.metrics())
    if counters.prompt_tokens is None or counters.hit_tokens is None:
        return None
    return counters.prompt_tokens - counters.hit_tokens


def follow(
    prompts: Sequence[Compiled],
    residency: Residency,
    events: Subscription,
    timeout_s: float,
    arrivals: Arrivals | None = None,
) -> list[Compiled]:
    """Take in what has happened; the prompts that are not complete on the server now."""
    batches = events.poll(timeout_s)
    if events.was_lost():
        residency.forget()
    for batch in batches:
        residency.take(batch)
        if arrivals:
            arrivals.take(batch)
    return [c for c in prompts if not residency.of(chain(c)).complete]
