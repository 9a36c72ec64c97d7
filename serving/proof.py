"""Prove the state of the cache: what the engine says of itself, and what a canary shows.

The launch flag alone proves nothing (an engine turns caching off for some models and backends), so
each arm is checked twice: by the engine's own configuration metric and by the cached-token count
of a prompt that nobody else sends.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from configs.errors import CacheStateError
from configs.schema import Arm
from serving.counters import CacheFacts
from serving.endpoint import Endpoint, Message
from serving.engine import Engine

WORDS = (
    "amber basin cedar delta ember fjord grove haven inlet jetty knoll larch meadow nectar "
    "orchard prairie quarry ridge summit thicket upland valley willow yarrow zephyr"
).split()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the cache should be: the arm, the configured block size (None: the engine's own), and
    how it was emptied, for the record."""

    arm: Arm
    block_tokens: int | None
    reset: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What was asked and seen. `canary_cached` are the cached tokens of the first and the second
    sending; `canary_expected` those of the second by the engine's rules (None: unknowable)."""

    arm: Arm
    facts: CacheFacts
    reset: str | None
    canary_prompt_tokens: int | None
    canary_cached: tuple[int | None, int | None]
    canary_expected: int | None
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def canary(nonce: str, block_tokens: int) -> list[Message]:
    """A prompt of at least three blocks whose text depends on `nonce` from its first word on."""
    # A word and its space are at least one token, so 3 blocks of words are at least 3 blocks.
    count = 3 * block_tokens
    words: list[str] = []
    digest = nonce.encode()
    while len(words) < count:
        digest = hashlib.sha256(digest).digest()
        words += [WORDS[byte % len(WORDS)] for byte in digest]
    return [{"role": "user", "content": f"{nonce} {' '.join(words[:count])}"}]


def prove(endpoint: Endpoint, engine: Engine, wanted: Wanted, nonce: str) -> Proof:
    """Check the cache of a freshly started (or reset) server; problems are listed, see `insist`."""
    facts = engine.cache_facts(endpoint.metrics())
    block = facts.block_tokens or 128
    messages = canary(nonce, block)
    first = endpoint.chat(messages, max_tokens=1)
    second = endpoint.chat(messages, max_tokens=1)
    expected = _expected(engine, wanted.arm, second.prompt_tokens, facts.block_tokens)
    seen = (first.cached_tokens, second.cached_tokens)
    problems = [*_fact_problems(wanted, facts), *_canary_problems(seen, expected)]
    return Proof(
        wanted.arm, facts, wanted.reset, second.prompt_tokens, seen, expected, tuple(problems)
    )


def insist(proof: Proof) -> None:
    """Raise CacheStateError when `proof` lists a problem."""
    if proof.problems:
        raise CacheStateError(
            f"arm {proof.arm}: the cache is not in the state that the arm means: "
            + "; ".join(proof.problems)
        )


def _expected(engine: Engine, arm: Arm, prompt_tokens: int | None, block: int | None) -> int | None:
    if arm == "jit":
        return 0
    if prompt_tokens is None or block is None:
        return None
    return engine.expected_cached_tokens(prompt_tokens, prompt_tokens, block)


def _fact_problems(wanted: Wanted, facts: CacheFacts) -> list[str]:
    problems = []
    if facts.enabled is None:
        problems.append("the engine does not report whether prefix caching is on")
    elif facts.enabled != (wanted.arm != "jit"):
        problems.append(
            f"the engine reports prefix caching {'on' if facts.enabled else 'off'}; some models "
            "and backends override the flag, see the server log"
        )
    if wanted.block_tokens not in (None, facts.block_tokens):
        problems.append(
            f"the engine runs with blocks of {facts.block_tokens} tokens, the server file says "
            f"block_tokens: {wanted.block_tokens}"
        )
    return problems


def _canary_problems(seen: tuple[int | None, int | None], expected: int | None) -> list[str]:
    first, second = seen
    if first is None or second is None:
        return ["the server does not report cached tokens per request"]
    problems = []
    if first != 0:
        problems.append(f"a prompt never sent before hit {first} cached tokens: not empty")
    if expected is not None and second != expected:
        problems.append(f"the canary sent again hit {second} cached tokens, expected {expected}")
    return problems
