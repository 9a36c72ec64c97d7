"""`aot doctor --server`: does the model fit the card, and what stays in its cache."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aot.configs.kernel.errors import ConfigError, LaunchError, NotSettledError, UsageError
from aot.configs.loading.presets import card, recipe_names
from aot.configs.schema.hardware import Architecture
from aot.configs.schema.recipe import Device
from aot.configs.schema.remote_server import RemoteConfig
from aot.configs.schema.server import ServerConfig
from aot.scripts import server_files
from aot.serving.engines import table
from aot.serving.engines.card.budget import Place, card_as_place
from aot.serving.engines.flags import value_of
from aot.serving.engines.launch_plan import Site, dtype
from aot.serving.local import models
from aot.serving.local.machine import Machine, this_machine
from aot.serving.memory.architectures import architecture
from aot.serving.memory.card_memory import Memory, memory_of
from aot.serving.memory.fitting import remedies, shortfall, undecided
from aot.serving.topology.container import device_of

UNNAMED_CARD_SHARE = 0.97
"""Of nvidia-smi's memory, what CUDA reports of a card that has no file in configs/cards/."""
ANOTHER_CARD = 0.1
"""Memory that is off by more than this from that of the file is of another card."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """One server file on one kind of card."""

    path: Path
    server: ServerConfig
    model: Architecture
    memory: Memory
    problem: str | None
    undecided: str | None
    """Why it cannot be said whether it fits."""
    remedies: tuple[str, ...]
    notes: tuple[str, ...]
    dtype: str

    def tokens_at(self, length: int) -> int:
        """What the cache holds of prompts of this length: with windows or states it is not what it
        holds of the longest."""
        if not (self.model.sliding_layers or self.model.state_layers):
            return self.memory.cache_tokens
        shorter = self.server.model_copy(update={"context_tokens": max(1, length)})
        return memory_of(shorter, self.model, self.memory.place, self.dtype).cache_tokens


def size(path: Path, card_name: str | None) -> Sizing:
    """The arithmetic for the server file at `path`, on `card_name`, else the GPU that is here, else
    the one that the file is for.

    Raises ConfigError (file, or no server of ours), UsageError (unknown card or model),
    NotSettledError (what is not computed, hub not reached), NotInstalledError (recipe not fetched).
    """
    server = server_files.read(path)
    if isinstance(server, RemoteConfig):
        raise ConfigError(
            path,
            "this server runs already, so its memory is settled; its cache size is in /metrics"
            + (f" ({metric})" if (metric := table.engine(server.engine).capacity_metric) else ""),
            "runtime",
        )
    try:
        return _size(path, server, card_name)
    except ConfigError:
        raise
    except UsageError as error:
        raise ConfigError(path, str(error)) from None
    except NotSettledError as error:
        raise NotSettledError(f"{path}: cannot say: {error}") from None


def _size(path: Path, server: ServerConfig, card_name: str | None) -> Sizing:
    machine = this_machine()
    place = _place(server, card_name, machine)
    _check_plan(server, place)
    model = architecture(models.resolve(server.model, path))
    computed = _dtype(server, model, place, machine)
    memory = memory_of(server, model, place, computed)
    problem = shortfall(memory)
    cards = {name: card_as_place(name, card(name)) for name in recipe_names("cards")}
    open_ = undecided(memory)
    mends = remedies(server, model, place, computed, cards) if problem or open_ else []
    notes = tuple(_notes(server, memory, model))
    mended = tuple(mends)
    return Sizing(path, server, model, memory, problem, open_, mended, notes, computed)


def _check_plan(server: ServerConfig, place: Place) -> None:
    """UsageError for what the engine would be refused, so that nothing fits which cannot start."""
    device: Device = "cuda" if place.cuda else "cpu"
    table.engine(server.engine).plan(server, "auto", Site(Path(), server.model, 1, device))


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
    except (UsageError, NotSettledError):
        return
    here = machine.gpus or not place.cuda
    if here and weights_gib > place.memory_gib:
        raise UsageError(
            f"model: {server.model} has {weights_gib:.1f} GiB of weights"
            f"{' on each card' if server.gpus else ''}, and {place.name} has "
            f"{place.memory_gib:.1f} GiB; what would fit: aot doctor --server FILE"
        )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """An engine that dies for want of memory: its post-mortem, and how to find out what fits."""
    try:
        yield
    except LaunchError as error:
        if not any(e.out_of_memory.search(str(error)) for e in table.ENGINES.values()):
            raise
        words = f"it needs more memory than there is; what would fit: aot doctor --server {path}"
        raise LaunchError(f"{error}\n{words}") from None


def _place(server: ServerConfig, card_name: str | None, machine: Machine) -> Place:
    if device_of(server) == "cpu":
        if card_name:
            raise UsageError(f"environment: {server.recipe} is for a CPU; leave --card out")
        if server.replicas == 1:
            return Place("the memory of this machine", machine.memory_gib, cuda=False)
        share = f"1/{server.replicas} of the memory of this machine"
        return Place(share, machine.memory_gib / server.replicas, cuda=False)
    if card_name:
        return card_as_place(card_name, card(card_name))
    here = [_card_of(line) for line in machine.gpus[: server.cards]]
    if here and None not in here:  # the smallest decides
        return min(filter(None, here), key=lambda place: place.memory_gib)
    if server.card:
        return card_as_place(server.card, card(server.card))
    known = ", ".join(recipe_names("cards"))
    what = "nvidia-smi does not say how much memory the GPU has" if machine.gpus else "no GPU here"
    raise UsageError(f"{what}, and no key 'card'; name one: --card NAME ({known})")


def _card_of(line: str) -> Place | None:
    """The card of a line of nvidia-smi: name, memory in MiB, driver. None where it does not tell,
    as on machines whose GPU has no memory of its own."""
    name, memory, *_ = [*(part.strip() for part in line.split(",")), ""]
    mib = re.match(r"(\d+)\s*MiB", memory)
    seen_gib = UNNAMED_CARD_SHARE * int(mib[1]) / 1024 if mib else None
    for known in recipe_names("cards"):
        if name in card(known).names:
            made = card_as_place(known, card(known))
            # A part of a card, or another one of that name, has the memory that it shows.
            other = seen_gib and abs(seen_gib / made.memory_gib - 1) > ANOTHER_CARD
            return Place(name, seen_gib, True, made.fp8) if other and seen_gib else made
    return Place(name, seen_gib, cuda=True) if seen_gib else None


def _dtype(server: ServerConfig, model: Architecture, place: Place, machine: Machine) -> str:
    """What the engine computes in. On a GPU 'auto' is the model's own, and 16 bit for float32."""
    if place.cuda:
        float32 = server.dtype == "auto" and model.weights_dtype == "float32"
        return "bfloat16" if float32 else server.dtype
    site = Site(Path(), "", 0, "cpu", machine.cpu_flags)
    return dtype(server, site)


def _kinds(model: Architecture) -> Iterator[str]:
    """What a number of tokens means where layers do not keep all of them."""
    as_printed = (
        "the cache's tokens are the requests of the longest length that fit at once, times that "
        "length, as vLLM prints it"
    )
    if model.sliding_layers:
        kept = f"keep {model.sliding_window} tokens only"
        yield f"{model.sliding_layers} of {model.layers} layers {kept}: {as_printed}"
    if model.state_layers:
        yield f"{model.state_layers} layers keep a state: {as_printed}"


def _notes(server: ServerConfig, memory: Memory, model: Architecture) -> Iterator[str]:
    kv = value_of(server.args, "--kv-cache-dtype") or "auto"
    if kv.startswith("fp8") and memory.place.cuda and not memory.place.fp8:
        yield f"{memory.place.name} does not compute FP8: the engine may refuse {kv}, or convert"
    if model.context_tokens and memory.context_tokens > model.context_tokens:
        yield (
            f"context_tokens {memory.context_tokens:,} is more than the model was made for "
            f"({model.context_tokens:,}): the engine asks for a rope-scaling setting"
        )
    yield from _kinds(model)
    if model.gated:
        yield f"{model.hub_id} is gated: agree to its terms on the hub, then export HF_TOKEN"
    there = this_machine().gpus
    if memory.place.cuda and memory.place.name == server.card and there and not _card_of(there[0]):
        yield f"the GPU here does not say what it has: this is about the file's card, {server.card}"
    needed, here = memory.cards * server.replicas, len(there)
    if memory.place.cuda and here and here < needed:
        yield f"the file needs {needed} cards, and this machine has {here}"
    engine = table.engine(server.engine)
    clipped = engine.memory is not None and engine.memory.takes_what_there_is
    if clipped and server.cache_tokens and memory.cache_gib == memory.left_gib:
        yield (
            f"cache_tokens {server.cache_tokens:,} has no room: {engine.title} takes what there is"
        )
    if memory.place.cuda:
        yield (
            "computed, not measured: the engine's log says at its start what it found "
            "('KV cache size', 'max_total_num_tokens')"
        )
