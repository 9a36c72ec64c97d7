"""The memory of a card, and what an engine does with it: the nouns (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from aot.configs.schema.hardware import Architecture, Card

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Place:
    """What the engine runs on: a kind of card, or the memory of a machine without one."""

    name: str
    memory_gib: float
    cuda: bool
    fp8: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """What an engine does with the memory of one card. GiB."""

    usable_gib: float
    usable_why: str
    reserve_gib: float
    """The most that was logged of such a server."""
    reserve_why: str
    least_gib: float
    """The least."""


ENCODER_GIB = 16.0
"""Of an encoder of images or sound that is profiled with its largest input: for Qwen2.5-VL-3B some
14 GiB beside the weights were too little (vllm-project/vllm#18124)."""


def layer_gib(model: Architecture, tokens: int, cards: int) -> float:
    """An estimate of the widest point of a layer: 16-bit activations of so many tokens at once."""
    return tokens * (4 * model.intermediate / cards + 6 * model.hidden) * 2 / GIB


def card_as_place(name: str, card: Card) -> Place:
    return Place(name, card.memory_gib, cuda=True, fp8=card.fp8)
