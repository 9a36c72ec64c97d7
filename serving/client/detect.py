"""Which engine answers at an address."""

from __future__ import annotations

from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine, Page
from aot.serving.engines.table import ENGINES, OPENAI


def detect(endpoint: Endpoint) -> Engine:
    """The engine behind `endpoint`, by its pages; OPENAI for a server of another kind."""
    metrics = endpoint.metrics()
    known = (engine for engine in ENGINES.values() if engine is not OPENAI)
    ours = (e for e in known if e.recognises(Page(metrics, endpoint.info(e.info_path))))
    return next(ours, OPENAI)
