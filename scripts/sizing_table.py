"""What `aot doctor --server` shows: the arithmetic row by row, and what stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from configs.architecture import Architecture
from configs.errors import UsageError
from scripts.compiling import static_tokens
from scripts.plan import local_encoder, schedule_of
from scripts.sizing import Sizing
from serving import models
from serving.architectures import snapshot
from serving.fitting import resident
from serving.memory import Memory


@dataclass(frozen=True, slots=True)
class Asked:
    """The traffic to make room for. `prefixes`: tokens of each static prefix, where known."""

    running: int
    request_tokens: int
    prefix_tokens: int
    prefixes: dict[str, int] | None = None

    @property
    def busy_tokens(self) -> int:
        return self.running * self.request_tokens


def asked(
    path: Path,
    sizing: Sizing,
    workload: Path | None,
    traffic: Asked,
) -> Asked:
    """`traffic` with the static prefixes of `workload`, counted by the model's own tokenizer.

    Raises UsageError where the tokenizer is not on this machine.
    """
    if workload is None:
        return traffic
    folder = snapshot(models.resolve(sizing.server.model, path))
    encode = local_encoder(folder) if folder else None
    if folder is None or encode is None:
        raise UsageError(
            f"--workload {workload}: the tokenizer of {sizing.server.model} is not on this "
            "machine to count with; give --prefix-tokens N instead"
        )
    schedule = schedule_of(workload, encode)
    prefixes = static_tokens(schedule, folder, sizing.server.block_tokens or 1)
    return replace(traffic, prefixes=prefixes)


def as_json(sizing: Sizing, traffic: Asked) -> dict[str, Any]:
    """Everything that is shown, and what it follows from."""
    memory, known = sizing.memory, traffic.prefixes
    each = resident(memory.cache_tokens, traffic.busy_tokens, traffic.prefix_tokens)
    return {
        "server": str(sizing.path),
        "fits": memory.fits,
        "problem": sizing.problem,
        "remedies": list(sizing.remedies),
        "notes": list(sizing.notes),
        "model": sizing.model.model_dump(mode="json"),
        "memory": asdict(memory),
        "asked": asdict(traffic),
        "resident_prefixes": each if known is None else _kept(memory, traffic, known),
    }


Row = tuple[str, str, str]


def rows(sizing: Sizing, traffic: Asked) -> Iterator[Row]:
    """What, how much, and why."""
    memory, model, budget = sizing.memory, sizing.model, sizing.memory.budget
    cards = f"{memory.cards} x " if memory.place.cuda else ""
    yield "on", f"{cards}{memory.place.name}", f"{memory.place.memory_gib:.1f} GiB each"
    yield "the engine may use", _gib(budget.usable_gib), budget.usable_why
    each = f", 1/{memory.cards} on each card" if memory.cards > 1 else ""
    yield "- weights", _gib(memory.weights_gib), f"{model.weights_dtype}{each}; {model.source}"
    yield "- reserve", _gib(budget.reserve_gib), budget.reserve_why
    yield "= left for the cache", _gib(memory.left_gib), ""
    if memory.cache_gib != memory.left_gib:
        yield "cache asked for", _gib(memory.cache_gib), "by the server file"
    yield "KV per token", f"{memory.kv_bytes_per_token:,} B", _kv_words(memory, model)
    yield (
        "cache",
        f"{memory.cache_tokens:,} tokens",
        "of each replica" if sizing.server.replicas > 1 else "",
    )
    longest = memory.cache_tokens / memory.context_tokens
    yield (
        "longest prompt",
        f"{memory.context_tokens:,} tokens",
        f"the cache holds {longest:.1f} of them",
    )
    yield _resident_row(memory, traffic)


def _resident_row(memory: Memory, traffic: Asked) -> Row:
    beside = (
        f"beside {traffic.running} running requests with {traffic.request_tokens:,} tokens of "
        "their own"
    )
    if traffic.prefixes is None:
        n = resident(memory.cache_tokens, traffic.busy_tokens, traffic.prefix_tokens)
        return (
            "static prefixes resident",
            f"{n:,}",
            f"of {traffic.prefix_tokens:,} tokens, {beside}",
        )
    what = f"{_kept(memory, traffic, traffic.prefixes)} of {len(traffic.prefixes)}"
    total = sum(traffic.prefixes.values())
    return "static prefixes resident", what, f"{total:,} tokens together, {beside}"


def _kept(memory: Memory, traffic: Asked, prefixes: dict[str, int]) -> int:
    """How many of these prefixes stay, the shortest first."""
    free, kept = memory.cache_tokens - traffic.busy_tokens, 0
    for tokens in sorted(prefixes.values()):
        free -= tokens
        kept += free >= 0
    return kept


def _kv_words(memory: Memory, model: Architecture) -> str:
    each = " on each card" if memory.cards > 1 else ""
    if model.latent_dim:
        return f"{model.layers} layers x {model.latent_dim}, {memory.kv_dtype}{each}"
    heads = -(-model.kv_heads // memory.cards)
    return f"2 x {model.layers} layers x {heads} heads x {model.head_dim}, {memory.kv_dtype}{each}"


def _gib(value: float) -> str:
    return f"{value:.1f} GiB"
