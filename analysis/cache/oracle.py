"""What the cache should have hit, computed from the prompts alone.

Replays them through an unbounded prefix cache in the order in which they were sent, and counts what
the engine's own rule of reuse would find. Whole blocks: floor(min(shared, prompt − 1) / block) ·
block. Eviction is not modelled: when the prompts do not fit into the engine's capacity, the
expectation is an upper bound. Prompts with different cache salts share nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from aot.configs.kernel.chains import block_chain
from aot.serving.engines.engine import Engine


class PrefixCache:
    """The set of all full-block prefixes of the prompts seen so far."""

    def __init__(self, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self._chains: set[int] = set()

    def __len__(self) -> int:
        return len(self._chains)

    def shared(self, prompt: Sequence[int], salt: str | None = None) -> int:
        """Leading tokens of `prompt`, in whole blocks, that some earlier prompt starts with."""
        blocks = 0
        for link in block_chain(prompt, self.block_tokens, salt):
            if link not in self._chains:
                break
            blocks += 1
        return blocks * self.block_tokens

    def add(self, prompt: Sequence[int], salt: str | None = None) -> None:
        self._chains.update(block_chain(prompt, self.block_tokens, salt))


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
    order: Iterable[Sent],
    before: Iterable[tuple[Sequence[int], str | None]],
    engine: Engine,
    block_tokens: int,
) -> dict[str, int]:
    """Expected cached tokens of each request in `order` (the order of sending).

    `before` are prompts, with their salts, that were sent before the clock started: proving and
    warming.
    """
    cache = PrefixCache(block_tokens)
    for prompt, salt in before:
        cache.add(prompt, salt)
    expected = {}
    for sent in order:
        shared = cache.shared(sent.prompt, sent.salt)
        expected[sent.id] = engine.expected_cached_tokens(shared, len(sent.prompt), block_tokens)
        cache.add(sent.leaves or sent.prompt, sent.salt)
    return expected


def distinct_tokens(prompts: Iterable[Sequence[int]], block_tokens: int) -> int:
    """Tokens that an unbounded cache would hold after all `prompts`: the working set."""
    cache = PrefixCache(block_tokens)
    for prompt in prompts:
        cache.add(prompt)
    return len(cache) * block_tokens
