"""The table of engines."""

from __future__ import annotations

from configs.errors import UsageError
from serving.engine import Engine
from serving.vllm import VLLM

ENGINES: dict[str, Engine] = {"vllm": VLLM()}


def engine(name: str) -> Engine:
    """The engine called `name`; UsageError with the known ones otherwise."""
    if name not in ENGINES:
        raise UsageError(f"unknown engine '{name}'; known: {', '.join(sorted(ENGINES))}")
    return ENGINES[name]
