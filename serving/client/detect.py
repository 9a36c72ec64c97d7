"""Which engine answers at an address, and where its model is."""

from __future__ import annotations

from pathlib import Path

from aot.configs.kernel import network
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine, Page
from aot.serving.engines.table import ENGINES, OPENAI


def detect(endpoint: Endpoint) -> Engine:
    """The engine behind `endpoint`, by its pages; OPENAI for a server of another kind."""
    metrics = endpoint.metrics()
    known = (engine for engine in ENGINES.values() if engine is not OPENAI)
    ours = (e for e in known if e.recognises(Page(metrics, endpoint.info(e.info_path))))
    return next(ours, OPENAI)


def folder_of_model(endpoint: Endpoint, engine: Engine) -> Path | None:
    """The folder of its model, where the server is on this machine and says it."""
    named = endpoint.folder()
    if engine.folder_key and network.is_loopback(endpoint.base_url):
        named = str(endpoint.info(engine.info_path).get(engine.folder_key) or named)
    return Path(named) if named and Path(named).is_dir() else None
