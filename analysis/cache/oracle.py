"""What the cache should have hit, computed from the prompts alone.

Replays them through an unbounded prefix cache in the order in which they were sent, by the rule of
the model's cache (configs/caches/). Full attention: floor(min(shared, prompt − 1) / block) · block.
Eviction is not modelled: when the prompts do not fit into the engine's capacity, the
expectation is an upper bound. Prompts with different cache salts share nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aot.configs.caches.endless import EndlessCache
from aot.configs.caches.rule import CacheRule, dense


@dataclass(frozen=True, slots=True)
class Sent:
    """A prompt as it was sent. `leaves` is what the engine keeps of it: the prompt, and what is
    known of the answer behind it."""

    id: str
    prompt: Sequence[int]
    salt: str | None = None
    leaves: Sequence[int] = field(default=())
    sent_s: float = 0.0
    ready_s: float | None = None
    """When its blocks can be found by others: with its first token."""


def expected_cached_tokens(
    order: Iterable[Sent], before: Iterable[tuple[Sequence[int], str | None]], rule: CacheRule
) -> dict[str, int]:
    """Expected cached tokens of each request in `order` (the order of sending).

    `before` are prompts, with their salts, that were sent before the clock started: proving and
    warming.
    """
    cache = EndlessCache(rule)
    for prompt, salt in before:
        cache.add(prompt, salt)
    expected = {}
    for sent in order:
        expected[sent.id] = cache.found_tokens(sent.prompt, sent.salt)
        cache.add(sent.prompt, sent.salt, sent.leaves)
    return expected


def distinct_tokens(prompts: Iterable[Sequence[int]], block_tokens: int) -> int:
    """Tokens that an unbounded cache would hold after all `prompts`: the working set."""
    cache = EndlessCache(dense(block_tokens))
    for prompt in prompts:
        cache.add(prompt, None)
    return len(cache) * block_tokens
