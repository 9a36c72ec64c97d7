"""The table of engines."""

from __future__ import annotations

from configs.errors import UsageError
from serving.endpoint import Endpoint
from serving.engine import Engine, Page
from serving.openai_server import OpenAIServer
from serving.sglang import SGLang
from serving.vllm import VLLM

OPENAI: Engine = OpenAIServer()
ENGINES: dict[str, Engine] = {"vllm": VLLM(), "sglang": SGLang(), "openai": OPENAI}


def engine(name: str) -> Engine:
    """The engine called `name`; UsageError with the known ones otherwise."""
    if name not in ENGINES:
        raise UsageError(f"unknown engine '{name}'; known: {', '.join(sorted(ENGINES))}")
    return ENGINES[name]


def detect(endpoint: Endpoint) -> Engine:
    """The engine behind `endpoint`, by its pages; OPENAI for a server of another kind."""
    metrics = endpoint.metrics()
    return next(
        candidate
        for candidate in ENGINES.values()
        if candidate.recognises(Page(metrics, endpoint.info(candidate.info_path)))
    )
