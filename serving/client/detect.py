"""Which engine answers at an address."""

from __future__ import annotations

from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine, Page
from aot.serving.engines.table import ENGINES


def detect(endpoint: Endpoint) -> Engine:
    """The engine behind `endpoint`, by its pages; OPENAI for a server of another kind."""
    metrics = endpoint.metrics()
    return next(
        candidate
        for candidate in ENGINES.values()
        if candidate.recognises(Page(metrics, endpoint.info(candidate.info_path)))
    )
