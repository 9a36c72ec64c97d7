"""A server that does not fit its card: what does not, and the changes that would mend it (pure)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aot.configs.kernel.errors import NotSettledError, UsageError
from aot.configs.schema.hardware import Architecture
from aot.configs.schema.server import ServerConfig
from aot.serving.engines import table
from aot.serving.engines.card.budget import GIB, Place
from aot.serving.engines.flags import value_of
from aot.serving.memory.card_memory import Memory, memory_of

MORE_CARDS = (2, 4, 8)
LARGER = 1.05
"""Times the memory: cards of much the same size are no remedy."""


def undecided(memory: Memory) -> str | None:
    """Where it fits with the least that was logged of a reserve and not with the most; what would
    settle it."""
    if memory.fits or not memory.may_fit:
        return None
    budget = memory.budget
    if memory.unknown_gib and memory.cache_tokens >= memory.context_tokens and memory.left_gib > 0:
        return (
            "cannot say: its encoder of images or sound is tried with the largest input when the "
            f"engine starts, which may take {memory.unknown_gib:.0f} GiB and is not computed here; "
            "start it, or serve text alone (--language-model-only)"
        )
    return (
        f"cannot say: the engine reserves {budget.least_gib:.1f} to {budget.reserve_gib:.1f} GiB, "
        f"which leaves {memory.left_gib:.1f} to {memory.most_left_gib:.1f} GiB, and with the least "
        "of it this fits; start it, and read 'Available KV cache memory' in its log"
    )


def shortfall(memory: Memory) -> str | None:
    """What does not fit, in one sentence; None where all does, or that cannot be said."""
    if memory.fits or undecided(memory):
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
    if not memory.states_fit:
        return (
            f"{memory.states_needed:,} requests at once do not fit: the cache has room for the "
            f"states of {memory.states:,} to {memory.most_states:,} (--max-num-seqs)"
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
    cards: Mapping[str, Place],
) -> list[str]:
    """Single changes of the server file, and of the card, after each of which it fits.

    cards: the cards that are known, by name.
    """

    def mends(changed: ServerConfig, there: Place = place) -> bool:
        try:
            return memory_of(changed, model, there, dtype).fits
        except (UsageError, NotSettledError):
            return False

    changes: list[str] = []
    for key, value in _changes(server, memory_of(server, model, place, dtype)):
        enough = key == "gpus" and any(words.startswith("gpus") for words in changes)
        if not enough and mends(server.model_copy(update={key: value})):
            changes.append(f"{key}: {_as_yaml(value)}")
    larger = sorted((o.memory_gib, n) for n, o in cards.items() if mends(server, o))
    names = [name for gib, name in larger if gib > LARGER * place.memory_gib]
    return [*changes, f"a larger card: {', '.join(names)}"] if place.cuda and names else changes


def _changes(server: ServerConfig, memory: Memory) -> Iterator[tuple[str, Any]]:
    """What could be changed in the file, whether it helps or not."""
    yield from _smaller_caches(server, memory)
    rules = table.engine(server.engine).memory
    smaller = list(rules.smaller_batch) if rules else []
    if memory.place.cuda and smaller and not value_of(server.args, smaller[0]):
        yield "args", [*server.args, *smaller]
    fp8 = rules.fp8_cache if rules else "fp8"
    for flag in ("--kv-cache-dtype", "--quantization"):
        if memory.place.fp8 and value_of(server.args, flag) is None:
            yield "args", [*server.args, flag, fp8 if flag == "--kv-cache-dtype" else "fp8"]
    if memory.place.cuda:
        yield from (("gpus", n) for n in MORE_CARDS if n > server.cards)


def _smaller_caches(server: ServerConfig, memory: Memory) -> Iterator[tuple[str, Any]]:
    if memory.left_gib > 0:
        if server.cache_gib:
            yield "cache_gib", int(memory.left_gib * 10) / 10
        if server.cache_tokens:
            yield "cache_tokens", int(memory.left_gib * GIB / memory.kv_bytes_per_token)
            yield "cache_tokens", None
        yield "context_tokens", max(1, memory.cache_tokens // 1024) * 1024
    if memory.states and not memory.states_fit:
        yield "args", [*server.args, "--max-num-seqs", str(memory.states)]


def _as_yaml(value: object) -> str:
    if value is None:
        return "(leave it out)"
    return f"[{', '.join(value)}]" if isinstance(value, list) else str(value)


def resident(cache_tokens: int, busy_tokens: int, prefix_tokens: int) -> int:
    """Static prefixes of `prefix_tokens` that stay in the cache beside requests that hold
    `busy_tokens` of their own (dynamic parts and answers)."""
    return max(0, cache_tokens - busy_tokens) // max(1, prefix_tokens)
