"""`aot doctor --server`: does the model fit the card, and what stays in its cache."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.architecture import Architecture
from configs.errors import ConfigError, UsageError
from configs.load import load_server
from configs.recipes import card, recipe_names
from configs.server import RemoteConfig, ServerConfig
from scripts.compiling import static_tokens
from scripts.plan import local_encoder, schedule_of
from serving import models
from serving.architectures import architecture, snapshot
from serving.container import device_of
from serving.engine import Site, dtype
from serving.fitting import remedies, resident, shortfall
from serving.flags import value_of
from serving.machine import Machine, this_machine
from serving.memory import Memory, Place, card_as_place, memory_of

UNNAMED_CARD_SHARE = 0.97
"""Of nvidia-smi's memory, what CUDA reports of a card that has no file in configs/cards/."""


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


@dataclass(frozen=True, slots=True)
class Sizing:
    """One server file on one kind of card."""

    path: Path
    server: ServerConfig
    model: Architecture
    memory: Memory
    problem: str | None
    remedies: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self, asked: Asked) -> dict[str, Any]:
        """Everything that is shown, and what it follows from."""
        memory = self.memory
        return {
            "server": str(self.path),
            "fits": memory.fits,
            "problem": self.problem,
            "remedies": list(self.remedies),
            "notes": list(self.notes),
            "model": self.model.model_dump(mode="json"),
            "memory": asdict(memory),
            "asked": asdict(asked),
            "resident_prefixes": resident(
                memory.cache_tokens, asked.busy_tokens, asked.prefix_tokens
            )
            if asked.prefixes is None
            else None,
            "static_tokens": sum(asked.prefixes.values()) if asked.prefixes else None,
        }


def size(path: Path, card_name: str | None) -> Sizing:
    """The arithmetic for the server file at `path`, on `card_name`, else the GPU that is here, else
    the one that the file is for.

    Raises ConfigError (file, or no server of ours), UsageError (unknown card or model, what cannot
    be computed), NotInstalledError (recipe not fetched), ToolkitError (hub not reached).
    """
    server = load_server(path)
    if isinstance(server, RemoteConfig):
        raise ConfigError(
            path,
            "this server runs already, so its memory is settled; its cache size is in "
            "/metrics (vLLM: vllm:cache_config_info, SGLang: sglang:max_total_num_tokens)",
            "runtime",
        )
    try:
        return _size(path, server, card_name)
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(path, str(error)) from None


def _size(path: Path, server: ServerConfig, card_name: str | None) -> Sizing:
    machine = this_machine()
    place = _place(server, card_name, machine)
    model = architecture(models.resolve(server.model, path))
    computed = _dtype(server, model, place, machine)
    memory = memory_of(server, model, place, computed)
    problem = shortfall(memory)
    cards = {name: card_as_place(name, card(name)) for name in recipe_names("cards")}
    mends = remedies(server, model, place, computed, cards) if problem else []
    return Sizing(
        path, server, model, memory, problem, tuple(mends), tuple(_notes(server, memory, model))
    )


def refuse_too_large(server: ServerConfig, model: str) -> None:
    """UsageError when not even the weights of `model`, as it is resolved, have room on this
    machine. Says nothing where that is not known without asking the hub, or not certain."""
    machine = this_machine()
    try:
        known = architecture(model, ask_hub=False)
        place = _place(server, None, machine)
        weights_gib = memory_of(
            server, known, place, _dtype(server, known, place, machine)
        ).weights_gib
    except UsageError:
        return
    here = machine.gpus or not place.cuda
    if here and weights_gib > place.memory_gib:
        raise UsageError(
            f"model: {server.model} has {weights_gib:.1f} GiB of weights"
            f"{' on each card' if server.gpus else ''}, and {place.name} has "
            f"{place.memory_gib:.1f} GiB; what would fit: aot doctor --server FILE"
        )


def _place(server: ServerConfig, card_name: str | None, machine: Machine) -> Place:
    if server.recipe != "current" and device_of(server) == "cpu":
        if card_name:
            raise UsageError(f"environment: {server.recipe} is for a CPU; leave --card out")
        return Place("the memory of this machine", machine.memory_gib, cuda=False)
    if card_name:
        return card_as_place(card_name, card(card_name))
    if machine.gpus:
        return _found(machine.gpus[0])
    if server.card:
        return card_as_place(server.card, card(server.card))
    known = ", ".join(recipe_names("cards"))
    raise UsageError(f"no GPU here, and no key 'card'; name one: --card NAME ({known})")


def _found(line: str) -> Place:
    """The card of a line of nvidia-smi: name, memory in MiB, driver."""
    name, memory, *_ = [part.strip() for part in line.split(",")]
    for known in recipe_names("cards"):
        if name in card(known).names:
            return card_as_place(known, card(known))
    mib = float(memory.split()[0])
    return Place(name, UNNAMED_CARD_SHARE * mib / 1024, cuda=True)


def _dtype(server: ServerConfig, model: Architecture, place: Place, machine: Machine) -> str:
    """What the engine computes in. On a GPU 'auto' is the model's own, and 16 bit for float32."""
    if place.cuda:
        float32 = server.dtype == "auto" and model.weights_dtype == "float32"
        return "bfloat16" if float32 else server.dtype
    site = Site(Path(), "", 0, "cpu", machine.cpu_flags)
    return dtype(server, site)


def _notes(server: ServerConfig, memory: Memory, model: Architecture) -> Iterator[str]:
    kv = value_of(server.args, "--kv-cache-dtype") or "auto"
    if kv.startswith("fp8") and memory.place.cuda and not memory.place.fp8:
        yield f"{memory.place.name} does not compute FP8: the engine may refuse {kv}, or convert"
    if memory.context_tokens > model.context_tokens:
        yield (
            f"context_tokens {memory.context_tokens:,} is more than the model was made for "
            f"({model.context_tokens:,}): the engine asks for a rope-scaling setting"
        )
    if model.sliding_layers:
        yield (
            f"{model.sliding_layers} of {model.layers} layers attend to {model.sliding_window} "
            "tokens only: counted in full here, so the cache holds at least what is said"
        )
    if model.gated:
        yield f"{model.hub_id} is gated: agree to its terms on the hub, then export HF_TOKEN"
    if memory.place.cuda:
        yield (
            "computed, not measured: the engine's log says at its start what it found "
            "('KV cache size', 'max_total_num_tokens')"
        )


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
    return Asked(traffic.running, traffic.request_tokens, traffic.prefix_tokens, prefixes)


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
    free, kept = max(0, memory.cache_tokens - traffic.busy_tokens), 0
    total = sum(traffic.prefixes.values())
    for tokens in sorted(traffic.prefixes.values()):
        free -= tokens
        kept += free >= 0
    what = f"{kept} of {len(traffic.prefixes)}"
    return "static prefixes resident", what, f"{total:,} tokens together, {beside}"


def _kv_words(memory: Memory, model: Architecture) -> str:
    each = " on each card" if memory.cards > 1 else ""
    if model.latent_dim:
        return f"{model.layers} layers x {model.latent_dim}, {memory.kv_dtype}{each}"
    heads = -(-model.kv_heads // memory.cards)
    return f"2 x {model.layers} layers x {heads} heads x {model.head_dim}, {memory.kv_dtype}{each}"


def _gib(value: float) -> str:
    return f"{value:.1f} GiB"
