"""What the cache should have hit, computed from the schedule alone.

Replays the planned prompts through an unbounded prefix cache in the order in which they were sent,
and counts what the engine's own rule of reuse would find. Whole blocks:
floor(min(shared, prompt − 1) / block) · block. Eviction is not modelled: when the prompts do not
fit into the engine's capacity, the expectation is an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from serving.engine import Engine


class PrefixCache:
    """The set of all full-block prefixes of the prompts seen so far."""

    def __init__(self, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._chains: set[int] = set()

    def shared(self, prompt: Sequence[int]) -> int:
        """Leading tokens of `prompt`, in whole blocks, that some earlier prompt starts with."""
        blocks = 0
        for link in self._links(prompt):
            if link not in self._chains:
                break
            blocks += 1
        return blocks * self.block_tokens

    def add(self, prompt: Sequence[int]) -> None:
        self._chains.update(self._links(prompt))

    def _links(self, prompt: Sequence[int]) -> Iterable[int]:
        """One hash per full block, over the block and everything before it."""
        chain = 0
        for start in range(0, len(prompt) - self.block_tokens + 1, self.block_tokens):
            chain = hash((chain, *prompt[start : start + self.block_tokens]))
            yield chain


def expected_cached_tokens(
    order: Iterable[str],
    prompts: Mapping[str, Sequence[int]],
    before: Iterable[Sequence[int]],
    engine: Engine,
    block_tokens: int,
) -> dict[str, int]:
    """Expected cached tokens of each request id in `order` (the order of sending).

    `before` are prompts that were sent before the clock started: proving and warming.
    """
    cache = PrefixCache(block_tokens)
    for prompt in before:
        cache.add(prompt)
    expected = {}
    for request_id in order:
        prompt = prompts[request_id]
        shared = cache.shared(prompt)
        expected[request_id] = engine.expected_cached_tokens(shared, len(prompt), block_tokens)
        cache.add(prompt)
    return expected


def distinct_tokens(prompts: Iterable[Sequence[int]], block_tokens: int) -> int:
    """Tokens that an unbounded cache would hold after all `prompts`: the working set."""
    cache = PrefixCache(block_tokens)
    for prompt in prompts:
        cache.add(prompt)
    return len(cache._chains) * block_tokens
