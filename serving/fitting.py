"""A server that does not fit its card: what does not, and the changes that would mend it (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from configs.architecture import Architecture
from configs.errors import UsageError
from configs.server import ServerConfig
from serving.flags import value_of
from serving.memory import Memory, cards_of, memory_of
from serving.memory_budgets import GIB, Place

MORE_CARDS = (2, 4, 8)
SHORTEST_CONTEXT = 1024
"""Tokens; nobody deploys less."""


def shortfall(memory: Memory) -> str | None:
    """What does not fit, in one sentence; None where all does."""
    if memory.fits:
        return None
    where = f"{memory.place.name} ({memory.place.memory_gib:.1f} GiB)"
    if memory.left_gib <= 0:
        missing = -memory.left_gib
        return (
            f"the model does not fit on {where}: {memory.weights_gib:.1f} GiB of weights and "
            f"{memory.budget.reserve_gib:.1f} GiB of reserve are {missing:.1f} GiB more than the "
            f"{memory.budget.usable_gib:.1f} GiB that the engine may use"
        )
    if memory.cache_gib > memory.left_gib:
        return (
            f"the cache does not fit on {where}: it is to have {memory.cache_gib:.1f} GiB, and "
            f"weights and reserve leave {memory.left_gib:.1f} GiB"
        )
    return (
        f"the longest prompt does not fit: the cache holds {memory.cache_tokens:,} tokens, and "
        f"context_tokens is {memory.context_tokens:,}"
    )


def remedies(
    server: ServerConfig,
    model: Architecture,
    place: Place,
    dtype: str,
    others: Mapping[str, Place],
) -> list[str]:
    """Single changes of the server file, and of the card, after which it fits; least first.

    others: the cards that are known, by name.
    """

    def mends(changed: ServerConfig, there: Place = place) -> bool:
        try:
            return memory_of(changed, model, there, dtype).fits
        except UsageError:
            return False

    found = _smaller(server, memory_of(server, model, place, dtype))
    for flag, words in (("--kv-cache-dtype", "FP8 cache"), ("--quantization", "FP8 weights")):
        changed = server.model_copy(update={"args": [*server.args, flag, _fp8(server, flag)]})
        if place.fp8 and value_of(server.args, flag) is None and mends(changed):
            found.append(f"args: [{flag}, {_fp8(server, flag)}]  ({words})")
    more = [n for n in MORE_CARDS if n > cards_of(server)] if place.cuda else []
    enough = [n for n in more if mends(server.model_copy(update={"gpus": n}))]
    found += [f"gpus: {n}" for n in enough[:1]]
    larger = [name for name, other in others.items() if mends(server, other)] if place.cuda else []
    return [*found, f"a larger card: {', '.join(larger)}"] if larger else found


def _smaller(server: ServerConfig, memory: Memory) -> list[str]:
    """The same card with less asked of it; nothing where not even the weights have room."""
    if memory.left_gib <= 0:
        return []
    if memory.cache_gib > memory.left_gib:
        if server.cache_gib:
            return [f"cache_gib: {int(memory.left_gib * 10) / 10}"]
        return [f"cache_tokens: {int(memory.left_gib * GIB / memory.kv_bytes_per_token)}"]
    if memory.cache_tokens >= SHORTEST_CONTEXT:
        return [f"context_tokens: {memory.cache_tokens // 1024 * 1024}"]
    return []


def _fp8(server: ServerConfig, flag: str) -> str:
    """SGLang names the format of an FP8 cache; its other flag, and vLLM's both, take 'fp8'."""
    return "fp8_e4m3" if server.engine == "sglang" and flag == "--kv-cache-dtype" else "fp8"


def resident(cache_tokens: int, busy_tokens: int, prefix_tokens: int) -> int:
    """Static prefixes of `prefix_tokens` that stay in the cache beside requests that hold
    `busy_tokens` of their own (dynamic parts and answers)."""
    return max(0, cache_tokens - busy_tokens) // max(1, prefix_tokens)
