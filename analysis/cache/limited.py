"""What the cache of a model with windows or states finds on a trace: one request after the other,
by the model's own rule, in blocks that are taken as vLLM takes them (configs/caches/paged.py)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from aot.analysis.cache.policies import Leading
from aot.configs.caches.endless import EndlessCache
from aot.configs.caches.paged import PagedCache
from aot.configs.caches.rule import CacheRule
from aot.workloads.traces.blocks import BlockTrace

Step = Callable[[int, Sequence[Hashable]], int]
"""Tokens and names of the full blocks of a prompt → blocks that it finds."""


def leading(trace: BlockTrace, rule: CacheRule, capacity: int | None) -> Leading:
    """Found blocks of each request. `capacity`: blocks of all groups of layers together, as vLLM
    counts them; None: nothing is given up. A request that does not fit alone finds nothing."""
    step = _unbounded(rule) if capacity is None else _bounded(rule, capacity)
    for tokens, blocks in zip(trace.input_tokens.tolist(), trace.prompts(), strict=True):
        yield step(tokens, blocks[: tokens // trace.block_tokens])


def _unbounded(rule: CacheRule) -> Step:
    cache = EndlessCache(rule)

    def step(tokens: int, names: Sequence[Hashable]) -> int:
        found = cache.found_blocks(tokens, names)
        cache.add_blocks(tokens, names)
        return found

    return step


def _bounded(rule: CacheRule, capacity: int) -> Step:
    cache = PagedCache(rule, capacity)

    def step(tokens: int, names: Sequence[Hashable]) -> int:
        running = cache.start(tokens, names)
        found = running.found
        try:
            cache.advance(running, tokens - running.computed_tokens)
        except ValueError:
            found = 0
        cache.finish(running)
        return found

    return step
