"""Prove the state of the cache: what the engine says of itself, and what a canary shows.

The launch flag alone proves nothing (an engine turns caching off for some models and backends), so
each arm is checked twice: by the engine's own configuration and by the cached-token count of a
prompt that nobody else sends. On a server that somebody else runs, where no flag can be set, every
phase has a cache salt of its own, and the canary is the proof.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any

from aot.configs.caches.rule import CacheRule
from aot.configs.kernel.errors import CacheStateError
from aot.configs.kernel.salts import Salts
from aot.configs.schema.experiment import Arm
from aot.serving.client.chat import Message, Usage, shown_zeros
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine
from aot.serving.metrics.counters import CacheFacts

WORDS = (
    "amber basin cedar delta ember fjord grove haven inlet jetty knoll larch meadow nectar "
    "orchard prairie quarry ridge summit thicket upland valley willow yarrow zephyr"
).split()
MIN_WORDS = 96
OPENING_TOKENS = 16
"""A prompt never sent before may share this much with earlier ones where tokens, not whole blocks,
are matched: the opening of the chat template (3 to 4 tokens with ChatML)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the cache should be: the arm, the configured block size (None: the engine's own), how
    it was emptied, for the record, and on a remote server the salts that stand in for a flag."""

    arm: Arm
    block_tokens: int | None
    reset: str
    remote: bool = False
    salts: Salts | None = None
    tenants_apart: bool = False
    """Whether tenants are to be kept apart by salts of their own."""
    beyond: bool = False
    """Whether there is a tier beyond the device: a store or a connector."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was asked and seen. `canary_cached` are the cached tokens of the first and the second
    sending; `canary_expected` those of the second by the engine's rules (None: unknowable).
    `problems` contradict the arm; `unknown` is what could not be checked."""

    arm: Arm
    facts: CacheFacts
    reset: str
    salts: str | None
    canary: list[Message]
    canary_prompt_tokens: int | None
    canary_cached: tuple[int | None, int | None]
    canary_expected: int | None
    problems: tuple[str, ...]
    unknown: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def canary(nonce: str, block_tokens: int) -> list[Message]:
    """A prompt of at least three blocks whose text depends on `nonce` from its first word on."""
    # A word and its space are at least one token, so 3 blocks of words are at least 3 blocks.
    count = max(MIN_WORDS, 3 * block_tokens)
    words: list[str] = []
    digest = nonce.encode()
    while len(words) < count:
        digest = hashlib.sha256(digest).digest()
        words += [WORDS[byte % len(WORDS)] for byte in digest]
    return [{"role": "user", "content": f"{nonce} {' '.join(words[:count])}"}]


def prove(endpoint: Endpoint, engine: Engine, wanted: Wanted, nonce: str) -> Proof:
    """Check the cache of a server before anything is measured on it; see `insist`."""
    facts = engine.cache_facts(endpoint.page(engine))
    messages = canary(nonce, facts.block_tokens or 128)
    first, second = _sent_twice(endpoint, messages, wanted.salts)
    expected = _expected(facts.reuse, wanted.arm, second.prompt_tokens)
    seen = (first.cached_tokens, second.cached_tokens)
    right = _right(wanted, expected, second.prompt_tokens)
    problems = _fact_problems(wanted, facts) + _canary_problems(wanted, facts, seen, right)
    return Proof(
        arm=wanted.arm,
        facts=facts,
        reset=wanted.reset,
        salts=wanted.salts.kind if wanted.salts else None,
        canary=messages,
        canary_prompt_tokens=second.prompt_tokens,
        canary_cached=seen,
        canary_expected=expected,
        problems=tuple(problems),
        unknown=tuple(_unknown(wanted, facts, seen)),
    )


def _sent_twice(
    endpoint: Endpoint, messages: list[Message], salts: Salts | None
) -> tuple[Usage, Usage]:
    """The canary's two answers. A server that says nothing of cached tokens in either may leave out
    a 0: a third sending, which must hit, shows whether it says them at all."""
    names = [salts.of(f"canary-{n}") if salts else None for n in (1, 2)]
    usages = [endpoint.chat(messages, 1, salt) for salt in names]
    if all(u.cached_tokens is None for u in usages):
        usages.append(endpoint.chat(messages, 1, names[-1]))
    first, second, *_ = shown_zeros(usages)
    return first, second


def prove_each(endpoint: Endpoint, engine: Engine, wanted: Wanted, nonce: str) -> Proof:
    """`prove` for every replica behind a router: the first one's proof with the problems of all."""
    # Each with a canary of its own: what one stores, another may find in a store that they share.
    proofs = [
        prove(replica, engine, wanted, f"{nonce} {number}" if number else nonce)
        for number, replica in enumerate(endpoint.each())
    ]
    dropped = _dropped_salts(endpoint, engine, wanted, proofs[0].facts, nonce)
    if len(proofs) == 1:
        return replace(proofs[0], problems=(*proofs[0].problems, *dropped))
    problems = tuple(f"replica {n}: {x}" for n, p in enumerate(proofs) for x in p.problems)
    unknown = tuple(dict.fromkeys(x for p in proofs for x in p.unknown))
    return replace(proofs[0], problems=(*problems, *dropped), unknown=unknown)


def _dropped_salts(
    endpoint: Endpoint, engine: Engine, wanted: Wanted, facts: CacheFacts, nonce: str
) -> list[str]:
    """Whether salts reach the engines the way that clients go. One prompt under several salts, as
    often as even a router that takes turns needs to come back to a replica: mostly found, the salts
    were lost on the way."""
    if not (wanted.salts or wanted.tenants_apart) or (wanted.arm == "jit" and not wanted.salts):
        return []
    messages = canary(f"{nonce} salts", facts.block_tokens or 128)
    salts = Salts(nonce, "request")
    for n in range(1 + 2 * len(endpoint.each())):
        usage = endpoint.chat(messages, 1, salts.of(f"salts-{n}"))
        if (usage.cached_tokens or 0) * 2 > (usage.prompt_tokens or 0) and n:
            version = engine.version(endpoint.page(engine))
            if old := engine.lacks_salts(version, endpoint.wording.dialect.name):
                return [f"{endpoint.base_url}: {old}, so tenants share its cache"]
            return [
                f"{endpoint.base_url} found a prompt under another cache salt than it was sent "
                f"with ({usage.cached_tokens} of {usage.prompt_tokens} tokens): something drops "
                "cache_salt on the way (sglang-router 0.3.2 does; smg and vllm-router pass it on)"
            ]
    return []


def insist(proof: Proof) -> None:
    """Raise CacheStateError when `proof` lists a problem."""
    if proof.problems:
        raise CacheStateError(
            f"arm {proof.arm}: the cache is not in the state that the arm means: "
            + "; ".join(proof.problems)
        )


def _expected(rule: CacheRule | None, arm: Arm, prompt_tokens: int | None) -> int | None:
    if arm == "jit":
        return 0
    if prompt_tokens is None or rule is None:
        return None
    return rule.expected_tokens(prompt_tokens, prompt_tokens)


def _right(wanted: Wanted, expected: int | None, prompt_tokens: int | None) -> list[int]:
    """What the second sending may have found; empty where nobody knows. The device gives whole
    blocks; a tier beyond it may give a prompt of whole chunks but for its last token (seen with
    LMCache), which is always computed."""
    if expected is None:
        return []
    if not (wanted.beyond and prompt_tokens) or wanted.arm == "jit":
        return [expected]
    return [expected, prompt_tokens - 1]


def _fact_problems(wanted: Wanted, facts: CacheFacts) -> list[str]:
    problems = []
    # A remote server's jit is emulated by salts while its cache stays on.
    meant = None if wanted.remote and wanted.arm == "jit" else wanted.arm != "jit"
    if facts.enabled is None and not wanted.remote:
        problems.append("the engine does not report whether prefix caching is on")
    elif None not in (facts.enabled, meant) and facts.enabled != meant:
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


def _canary_problems(
    wanted: Wanted, facts: CacheFacts, seen: tuple[int | None, int | None], right: list[int]
) -> list[str]:
    first, second = seen
    if first is None or second is None:
        can_be_unknown = wanted.remote and wanted.salts is None
        return [] if can_be_unknown else ["the server does not report cached tokens per request"]
    problems = []
    opening = OPENING_TOKENS if _matches_tokens(facts) and wanted.arm != "jit" else 0
    if first > (0 if wanted.salts else opening):
        problems.append(f"a prompt never sent before hit {first} cached tokens: not empty")
    if right and second not in right:
        problems.append(f"the canary sent again hit {second} cached tokens, expected {right[0]}")
    elif not right and second == 0:
        problems.append("the canary sent again hit nothing: the server does not cache prefixes")
    return problems


def _unknown(wanted: Wanted, facts: CacheFacts, seen: tuple[int | None, int | None]) -> list[str]:
    if not wanted.remote:
        return []
    unknown = []
    if None in seen:
        unknown.append("the server reports no cached tokens per request")
    if wanted.salts is None:
        unknown.append("what was in the cache before cannot be known: it has no salts")
    if facts.enabled is None:
        unknown.append("the server does not say whether prefix caching is on")
    return unknown


def _matches_tokens(facts: CacheFacts) -> bool:
    return facts.block_tokens is not None and facts.block_tokens < OPENING_TOKENS
