"""What `aot doctor --server` shows: the arithmetic row by row, and what stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.hardware import Architecture
from aot.scripts.doctor.sizing import Sizing
from aot.scripts.prompts.compiling import static_tokens
from aot.scripts.traffic.plan import count_tokens, local_encoder, schedule_of
from aot.serving.local import models
from aot.serving.memory.architectures import snapshot
from aot.serving.memory.card_memory import Memory
from aot.serving.memory.fitting import resident

RUNNING, REQUEST_TOKENS, PREFIX_TOKENS = 8, 1024, 4096
"""Guesses, for want of a workload."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The traffic to make room for: None is what the workload says, or a guess without one."""

    running: int | None = None
    request_tokens: int | None = None
    prefix_tokens: int = PREFIX_TOKENS


@dataclass(frozen=True, slots=True)
class Traffic:
    """The same with numbers. `prefixes`: tokens of each static prefix, where they are known."""

    running: int
    request_tokens: int
    prefix_tokens: int
    prefixes: dict[str, int] | None = None

    def busy_tokens(self, replicas: int) -> int:
        """Tokens that running requests hold beside their static prefixes, on one of `replicas`."""
        return -(-self.running // replicas) * self.request_tokens


def traffic_of(path: Path, sizing: Sizing, workload: Path | None, asked: Asked) -> Traffic:
    """What is asked for; of `workload` the static prefixes are counted by the model's tokenizer.

    Raises UsageError where the tokenizer is not on this machine.
    """
    running, own, prefixes = asked.running, asked.request_tokens, None
    if workload is not None:
        prefixes, users, longest = _counted(path, sizing, workload)
        running = users if running is None else running
        own = longest if own is None else own
    return Traffic(
        RUNNING if running is None else running,
        REQUEST_TOKENS if own is None else own,
        asked.prefix_tokens,
        prefixes,
    )


def _counted(
    path: Path, sizing: Sizing, workload: Path
) -> tuple[dict[str, int], int | None, int | None]:
    """Tokens of each static prefix, users, and the most tokens that a request has beside its static
    prefix, with its answer; None where the workload does not say."""
    folder = snapshot(models.resolve(sizing.server.model, path))
    encode = local_encoder(folder) if folder else None
    if folder is None or encode is None:
        raise UsageError(
            f"--workload {workload}: the tokenizer of {sizing.server.model} is not on this "
            "machine to count with; give --prefix-tokens N instead"
        )
    schedule = schedule_of(workload, encode)
    prefixes = static_tokens(schedule, folder, sizing.server.block_tokens or 1)
    tokens = count_tokens(schedule, encode) or {}
    own = [
        len(tokens[r.id]) - prefixes[r.prefix] + schedule.output_tokens(r)
        for r in schedule.planned
        if r.id in tokens
    ]
    return prefixes, schedule.users or None, max(own, default=None)


def facts(sizing: Sizing, traffic: Traffic) -> dict[str, Any]:
    """Everything that is shown, and what it follows from."""
    return {
        "server": str(sizing.path),
        "fits": None if sizing.undecided else sizing.memory.fits,
        "problem": sizing.problem or sizing.undecided,
        "remedies": list(sizing.remedies),
        "notes": list(sizing.notes),
        "model": sizing.model.model_dump(mode="json"),
        "memory": asdict(sizing.memory),
        "traffic": asdict(traffic),
        "resident_prefixes": _resident(sizing, traffic),
    }


def _resident(sizing: Sizing, traffic: Traffic) -> int:
    """Static prefixes that stay; of all replicas together where each is kept on one of them."""
    replicas, front = sizing.server.replicas, sizing.server.front
    homes = replicas if front and front.keeps_owners else 1
    busy = traffic.busy_tokens(replicas)
    if traffic.prefixes is None:
        held = sizing.tokens_at(traffic.prefix_tokens)
        return homes * resident(held, busy, traffic.prefix_tokens)
    held = sizing.tokens_at(min(traffic.prefixes.values(), default=1))
    free, kept = homes * (held - busy), 0
    for tokens in sorted(traffic.prefixes.values()):
        free -= tokens
        kept += free >= 0
    return kept


Row = tuple[str, str, str]


def rows(sizing: Sizing, traffic: Traffic) -> Iterator[Row]:
    """What, how much, and why."""
    memory, model, budget = sizing.memory, sizing.model, sizing.memory.budget
    cards = f"{memory.cards} x " if memory.place.cuda else ""
    yield "on", f"{cards}{memory.place.name}", f"{memory.place.memory_gib:.1f} GiB each"
    yield "the engine may use", _gib(budget.usable_gib), budget.usable_why
    each = f", 1/{memory.cards} on each card" if memory.cards > 1 else ""
    yield "- weights", _gib(memory.weights_gib), f"{model.weights_dtype}{each}; {model.source}"
    yield "- reserve", _gib(budget.reserve_gib), budget.reserve_why
    most = f"at most {_gib(memory.most_left_gib)}" if memory.most_left_gib > memory.left_gib else ""
    yield "= left for the cache", _gib(memory.left_gib), most
    if memory.cache_gib != memory.left_gib:
        yield "cache asked for", _gib(memory.cache_gib), "by the server file"
    yield "KV per token", f"{memory.kv_bytes_per_token:,} B", _kv_words(memory, model)
    yield (
        "cache",
        f"{memory.cache_tokens:,} tokens",
        _cache_words(memory, sizing.server.replicas),
    )
    longest = memory.cache_tokens / memory.context_tokens
    yield (
        "longest prompt",
        f"{memory.context_tokens:,} tokens",
        f"the cache holds {longest:.1f} of them",
    )
    yield _resident_row(sizing, traffic)


def _cache_words(memory: Memory, replicas: int) -> str:
    words = "of each replica" if replicas > 1 else ""
    if memory.is_certain:
        return words
    return f"{words} at least; up to {memory.most_cache_tokens:,}, which its log will tell".strip()


def _resident_row(sizing: Sizing, traffic: Traffic) -> Row:
    kept, front = _resident(sizing, traffic), sizing.server.front
    why = f"of {traffic.prefix_tokens:,} tokens"
    if traffic.prefixes is not None:
        why = f"of {len(traffic.prefixes)}, {sum(traffic.prefixes.values()):,} tokens together"
    if front:
        where = "each on one replica" if front.keeps_owners else "the same ones on every replica"
        why += f", {where}"
    own = f"{traffic.request_tokens:,} tokens of their own"
    return (
        "static prefixes resident",
        f"{kept:,}",
        f"{why}, beside {traffic.running} running requests with {own}",
    )


def _kv_words(memory: Memory, model: Architecture) -> str:
    each = " on each card" if memory.cards > 1 else ""
    if model.latent_dim:
        index = f" and an index of {model.index_bytes} B" if model.index_bytes else ""
        return f"{model.layers} layers x {model.latent_dim}{index}, {memory.kv_dtype}{each}"
    heads = -(-model.kv_heads // memory.cards)
    words = f"2 x {model.layers} layers x {heads} heads x {model.head_dim}, {memory.kv_dtype}{each}"
    if model.global_head_dim:
        words += f" ({model.layers - model.sliding_layers} of them of other heads)"
    return f"{words}, while no window has passed" if model.sliding_layers else words


def _gib(value: float) -> str:
    return f"{value:.1f} GiB" if abs(value) >= 1 else f"{value:.2f} GiB"
