"""Where the prompt tokens that were not found in the cache went, cause by cause.

Each cause is the difference between two caches that differ in it alone, request by request, so that
no cause is below 0 and all of them add up to the tokens that were computed: found by anybody token
by token → the same within one salt → in whole blocks → by the rule of the model's cache → of
prompts whose prefill was over → found by the engine.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aot.analysis.cache.oracle import Sent
from aot.configs.caches.endless import EndlessCache
from aot.configs.caches.rule import CacheRule, dense

Before = Sequence[tuple[Sequence[int], str | None]]
MOST_TOKENS = 30_000_000
"""A token-exact cache of more would not fit into memory."""


@dataclass(frozen=True, slots=True)
class Losses:
    """Prompt tokens of one phase. All but `cached` were computed."""

    prompt_tokens: int
    cached: int
    first_touch: int
    """Static prefixes that nobody had sent before."""
    dynamic: int
    """What is new in each request."""
    salts: int
    """Known under another salt only."""
    rounding: int
    """Behind the last full block, or the last token."""
    sparse: int
    """In the cache of full attention, and not in that of this model: windows and states are kept
    where prompts end, and where they part from the second time on."""
    concurrency: int
    """Sent while the first request with the same beginning had no first token yet, and not found:
    in the engine's queue, or scheduled in the same step."""
    eviction: int
    """In the cache once, and not found: evicted, or not kept by the engine for another reason."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def attribute(
    order: Sequence[Sent],
    cached: Mapping[str, int],
    static_tokens: Mapping[str, int],
    before: Before,
    rule: CacheRule,
) -> Losses | None:
    """The losses of one phase; None where that is too much to hold.

    `order` is every request in the order of sending: what failed may have filled the cache, too.
    `cached` is what the engine reported for those that were answered, of which the losses are;
    `static_tokens` the length of each request's static part.
    """
    if not cached or sum(len(s.prompt) for s in order) > MOST_TOKENS:
        return None
    anybody, same_salt = EndlessCache(dense(1)), EndlessCache(dense(1))
    whole, kept = EndlessCache(dense(rule.block_tokens)), EndlessCache(rule)
    apart, timed = (same_salt, whole, kept), _Timed(rule)
    for prompt, salt in before:
        anybody.add(prompt, None)
        for cache in (*apart, timed.cache):
            cache.add(prompt, salt)
    sums = dict.fromkeys(Losses.__dataclass_fields__, 0)
    for sent in order:
        reach = [
            anybody.shared_tokens(sent.prompt),
            same_salt.shared_tokens(sent.prompt, sent.salt),
            whole.found_tokens(sent.prompt, sent.salt),
            kept.found_tokens(sent.prompt, sent.salt),
            timed.found_tokens(sent),
        ]
        if sent.id in cached:
            size, static = len(sent.prompt), static_tokens.get(sent.id, 0)
            for cause, tokens in _of_request(size, reach, cached[sent.id], static).items():
                sums[cause] += tokens
        anybody.add(sent.prompt, None, sent.leaves)
        for cache in apart:
            cache.add(sent.prompt, sent.salt, sent.leaves)
    return Losses(**sums)


def _of_request(size: int, reach: Sequence[int], found: int, static: int) -> dict[str, int]:
    """Where the tokens of one prompt went. `reach`: what each cache of the chain holds of it.

    What the engine found was there to be found, whatever a cache of the chain says: an engine lets
    blocks be found as soon as it has scheduled them, and a client sees the first token only. So no
    link is below `found`, and none above the one before it.
    """
    found = min(max(found, 0), size)
    links, most = [], size
    for tokens in reach:
        most = max(min(tokens, most), found)
        links.append(most)
    known, salted, whole, kept, ready = links
    first = max(0, min(static, size) - known)
    return {
        "prompt_tokens": size,
        "cached": found,
        "first_touch": first,
        "dynamic": size - known - first,
        "salts": known - salted,
        "rounding": salted - whole,
        "sparse": whole - kept,
        "concurrency": kept - ready,
        "eviction": ready - found,
    }


class _Timed:
    """A cache into which a prompt comes when its prefill is over."""

    def __init__(self, rule: CacheRule) -> None:
        self.cache = EndlessCache(rule)
        self._waiting: list[tuple[float, int, Sent]] = []
        self._number = 0

    def found_tokens(self, sent: Sent) -> int:
        """What `sent` finds at its time; then it waits for its own."""
        while self._waiting and self._waiting[0][0] <= sent.sent_s:
            _, _, done = heapq.heappop(self._waiting)
            self.cache.add(done.prompt, done.salt, done.leaves)
        tokens = self.cache.found_tokens(sent.prompt, sent.salt)
        ready_s = sent.sent_s if sent.ready_s is None else sent.ready_s
        self._number += 1
        heapq.heappush(self._waiting, (ready_s, self._number, sent))
        return tokens
