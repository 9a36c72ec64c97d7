"""What a server says of itself while it is under load, once a second, as JSON lines.

{"monotonic_s": CLOCK_MONOTONIC, "running": 3, "waiting": 0, "kv_usage": 0.4, ...}: the names of
Engine.gauges, without those that the page does not have. Times are of the middle of the scrape, on
the clock that the load side writes into its record files. Of replicas there is one line each, with
"replica": their number.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

from aot.configs.kernel.errors import ToolkitError
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine
from aot.serving.metrics.counters import Metrics, total

EVERY_S = 1.0


class Scraper:
    """Scrapes while the block runs; a scrape that fails is left out."""

    def __init__(self, endpoint: Endpoint, engine: Engine, path: Path) -> None:
        self._endpoint, self._engine, self._path = endpoint, engine, path
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._scrape, name="scraper", daemon=True)

    def __enter__(self) -> Scraper:
        if self._engine.gauges:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5 * EVERY_S)

    def _scrape(self) -> None:
        with self._path.open("w", encoding="utf-8", buffering=1) as out:
            due_s = time.monotonic()
            while not self._ended.wait(max(0.0, due_s - time.monotonic())):
                due_s = max(due_s + EVERY_S, time.monotonic())
                for number, engine in enumerate(self._endpoint.each()):
                    mark = {"replica": number} if self._endpoint.replicas else {}
                    if (row := self._row(engine)) is not None:
                        out.write(json.dumps({**row, **mark}) + "\n")

    def _row(self, engine: Endpoint) -> dict[str, float] | None:
        began_s = time.monotonic()
        try:
            values = sample(engine.metrics(), self._engine)
        except ToolkitError:
            return None
        middle_s = (began_s + time.monotonic()) / 2
        return {"monotonic_s": round(middle_s, 4), **values} if values else None


def sample(metrics: Metrics, engine: Engine) -> dict[str, float]:
    """The engine's gauges on a page."""
    gauges = {name: total(metrics, metric) for name, metric in engine.gauges.items()}
    return {name: value for name, value in gauges.items() if value is not None}
