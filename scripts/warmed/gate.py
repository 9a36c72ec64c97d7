"""`aot warm --gate`: beside one engine, an address that says when it may have traffic.

GET /ready is 200 while every prefix was found in the engine's cache since that engine's process
began, else 503 and why. An engine that is started anew is warmed anew, and so are edited files; an
edit that cannot be warmed leaves what serves as it was, and is said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from aot.configs.kernel.errors import EndpointError, ToolkitError, UsageError
from aot.configs.kernel.ports import address
from aot.scripts.prompts import warming
from aot.scripts.prompts.warming import Place
from aot.scripts.terminal import note, say
from aot.serving.client.endpoint import Endpoint
from aot.serving.metrics.counters import Metrics
from aot.serving.metrics.resets import reset
from aot.workloads.prompts import compiled
from aot.workloads.prompts.compiled import Compiled

LOOK_S = 1.0
RETRY_S = 10.0
PATHS = ("/ready", "/health", "/readyz")


@dataclass(slots=True)
class State:
    """What the address says. `failed`: why the latest warming did not succeed."""

    ready: bool = False
    words: str = "the engine was not asked yet"
    prefixes: int = 0
    warmings: int = 0
    failed: str | None = None

    def metrics(self) -> bytes:
        registry = CollectorRegistry()
        for name, words, value in (
            ("ready", "1 while every prefix was found in the engine's cache", self.ready),
            ("prefixes", "Prefixes that are kept there", self.prefixes),
            ("warmings", "Times that all of them were prefilled", self.warmings),
            ("failed", "1 where the latest warming did not succeed", self.failed is not None),
        ):
            Gauge(f"aot_gate_{name}", words, registry=registry).set(value)
        return generate_latest(registry)


@dataclass(slots=True)
class Gate:
    """`find` connects to the engine, and raises EndpointError while it does not answer. `files`:
    compiled prompts, or folders of them."""

    find: Callable[[], Endpoint]
    files: Sequence[Path]
    every_s: float | None = None
    state: State = field(default_factory=State)
    _place: Place | None = None
    _page: Metrics = field(default_factory=dict)
    _prompts: list[Compiled] = field(default_factory=list)
    _stamps: dict[Path, float] = field(default_factory=dict)
    _due_s: float = 0.0
    _computed: tuple[float, float | None] = (0.0, None)

    def look(self) -> None:
        """One round: is it there, is it the same, are the files, is it time to touch them?"""
        try:
            self._look()
        except EndpointError as error:
            self._closed(f"the engine does not answer: {error}")
            self._place = None
        except ToolkitError as error:
            self._not_warm(str(error))

    def _look(self) -> None:
        place = self._place or warming.place(self.find())
        place.endpoint.models()  # it answers
        page = place.endpoint.metrics()
        anew = self._place is None or bool(reset(self._page, page))
        stamps = {
            path: path.stat().st_mtime for path in compiled.listed(self.files) if path.exists()
        }
        if anew:
            self._closed("its prefixes are being compiled into the cache")
        self._place, self._page = place, page
        waited = time.monotonic() >= self._due_s
        if anew or stamps != self._stamps or (not self.state.ready and waited):
            self._stamps = stamps
            self._warm(place)
        elif waited:
            self._touch(place)

    def _warm(self, place: Place) -> None:
        prompts = compiled.read_all(self.files)
        words = warming.warmed(prompts, place)
        self._prompts = prompts
        self.state.ready, self.state.words, self.state.failed = True, words, None
        self.state.prefixes, self.state.warmings = len(prompts), self.state.warmings + 1
        say(f"ready: {words}")
        self._rest(place)

    def _touch(self, place: Place) -> None:
        """Before they could be displaced."""
        say(warming.watch_blind(self._prompts, place, None))
        self._rest(place)

    def _rest(self, place: Place) -> None:
        now, (then, before) = time.monotonic(), self._computed
        after = warming.computed_tokens(place)
        rest_s = self.every_s or warming.idle_s(before, after, max(now - then, 1e-3), place)
        self._computed, self._due_s = (now, after), now + rest_s
        self._page = place.endpoint.metrics()

    def _closed(self, words: str) -> None:
        if self.state.ready or words != self.state.words:
            note(f"not ready: {words}")
        self.state.ready, self.state.words = False, words

    def _not_warm(self, words: str) -> None:
        """Where it serves already, it goes on with what is there."""
        if words != self.state.failed:
            note(f"{'serving on, but ' if self.state.ready else 'not ready: '}{words}")
        self.state.failed = words
        if not self.state.ready:
            self.state.words = words
        self._due_s = time.monotonic() + RETRY_S


def keep(gate: Gate, listen: str) -> None:
    """Answer on HOST:PORT and look, for ever. UsageError where nothing can listen there."""
    try:
        server = ThreadingHTTPServer(address(listen, "--gate"), _handler(gate.state))
    except OSError as error:
        raise UsageError(f"--gate {listen}: {error.strerror or error}") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say(f"GET http://{listen}/ready is 200 when all prefixes are in the cache; Ctrl-C ends")
    try:
        while True:
            gate.look()
            time.sleep(LOOK_S)
    finally:
        server.shutdown()


def _handler(state: State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, state.metrics())
            elif self.path == "/live":
                self._answer(200, b"alive\n")
            elif self.path in PATHS:
                self._answer(200 if state.ready else 503, f"{state.words}\n".encode())
            else:
                self._answer(404, f"there are {', '.join(PATHS)}, /live, /metrics\n".encode())

        def log_message(self, *_: Any) -> None:
            return

        def _answer(self, status: int, text: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    return Handler
