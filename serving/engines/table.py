"""The table of engines."""

from __future__ import annotations

from aot.configs.kernel.errors import UsageError
from aot.serving.engines.engine import Engine
from aot.serving.engines.openai_server import OpenAIServer
from aot.serving.engines.sglang import SGLang
from aot.serving.engines.vllm import VLLM

OPENAI: Engine = OpenAIServer()
ENGINES: dict[str, Engine] = {"vllm": VLLM(), "sglang": SGLang(), "openai": OPENAI}


def engine(name: str) -> Engine:
    """The engine called `name`; UsageError with the known ones otherwise."""
    if name not in ENGINES:
        raise UsageError(f"unknown engine '{name}'; known: {', '.join(sorted(ENGINES))}")
    return ENGINES[name]
