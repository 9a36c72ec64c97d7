"""The table of engines."""

from __future__ import annotations

from configs.errors import UsageError
from serving.counters import Metrics
from serving.engine import Engine
from serving.vllm import VLLM

ENGINES: dict[str, Engine] = {"vllm": VLLM()}


def engine(name: str) -> Engine:
    """The engine called `name`; UsageError with the known ones otherwise."""
    if name not in ENGINES:
        raise UsageError(f"unknown engine '{name}'; known: {', '.join(sorted(ENGINES))}")
    return ENGINES[name]


def detect(metrics: Metrics) -> Engine | None:
    """The engine whose counters are on a /metrics page; None for a server of another kind."""
    for name, candidate in ENGINES.items():
        if any(sample.startswith(f"{name}:") for sample in metrics):
            return candidate
    return None
