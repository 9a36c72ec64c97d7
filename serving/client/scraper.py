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
from contextlib import suppress
from pathlib import Path

from aot.configs.kernel.errors import ToolkitError
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine
from aot.serving.metrics.counters import Metrics, total

EVERY_S = 1.0
ANSWER_S = 5.0
"""How long one scrape may take."""


class Scraper:
    """Scrapes while the block runs; a scrape that fails is left out."""

    def __init__(self, endpoint: Endpoint, engine: Engine, path: Path) -> None:
        self._endpoint, self._engine, self._path = endpoint, engine, path
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._scrape, args=(n, one), name=f"scraper-{n}", daemon=True)
            for n, one in enumerate(endpoint.each())
        ]

    def __enter__(self) -> Scraper:
        if self._engine.gauges:
            self._path.touch()
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        until = time.monotonic() + ANSWER_S
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=max(0.0, until - time.monotonic()))

    def _scrape(self, number: int, engine: Endpoint) -> None:
        """One engine, in a thread of its own: one that hangs holds up no other."""
        mark = {"replica": number} if self._endpoint.replicas else {}
        due_s = time.monotonic()
        while not self._ended.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + EVERY_S, time.monotonic())
            if (row := self._row(engine)) is not None:
                self._keep(json.dumps({**row, **mark}) + "\n")

    def _keep(self, line: str) -> None:
        # A full disk: this one is left out, and the replay itself says what is the matter.
        with self._lock, suppress(OSError), self._path.open("a", encoding="utf-8") as out:
            out.write(line)

    def _row(self, engine: Endpoint) -> dict[str, float] | None:
        began_s = time.monotonic()
        try:
            values = sample(engine.metrics(ANSWER_S), self._engine)
        except ToolkitError:
            return None
        middle_s = (began_s + time.monotonic()) / 2
        return {"monotonic_s": round(middle_s, 4), **values} if values else None


def sample(metrics: Metrics, engine: Engine) -> dict[str, float]:
    """The engine's gauges on a page."""
    gauges = {}
    for name, alternatives in engine.gauges.items():
        for metric in alternatives.split("|"):
            if (value := total(metrics, metric)) is not None:
                gauges[name] = value
    return gauges
