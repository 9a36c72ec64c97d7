"""A golden OpenAI-compatible server: known emission times, known token counts, faults on demand.

It stands in for timing truth and for failures only, never for an engine. Every event it sends is
stamped on CLOCK_MONOTONIC just before it is written.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "golden"
KEY = "stub-key"
PADDING = "x" * 160  # makes an event about as long as vLLM's, some 200 bytes and more


@dataclass
class Behaviour:
    """What the next requests get."""

    tokens: int | None = None
    """Of an answer; None: as many as are asked for."""
    gap_s: float = 0.04
    prompt_tokens: int = 120
    cached_tokens: int | None = 96
    remembers: bool = False
    """Whether answers that are not streamed tell `cached_tokens` only of what was asked before,
    under the same salt, as an engine would."""
    omits_zero: bool = False
    """Whether a 0 of these is left out, as vLLM did before one fix."""
    refuses: str | None = None
    """A field of the body that is refused by name, as OpenAI's reasoning models do."""
    models: bool = True
    usage: bool = True
    fault: str | None = None
    """None, a status as text ("429"), "break", "error-event", "no-text", "garbage", "stall"."""
    require_key: bool = False
    authorization: str | None = None
    """What the header must be, of every request, /metrics and the like included."""
    pages: dict[str, str] = field(default_factory=dict)
    """More pages to GET, by path; as an engine would have them."""
    posts: dict[str, tuple[int, str]] = field(default_factory=dict)
    """More paths to POST to, with status and body."""
    below: str = ""
    """Path of the base URL, as behind a gateway."""
    faults_after: int = 0
    """Requests answered well before `fault` begins."""
    faults: tuple[str, ...] = ()
    """Or one fault for each request, in the order of arrival."""


@dataclass
class Stub:
    base_url: str
    behaviour: Behaviour
    emitted: dict[str, list[float]] = field(default_factory=dict)
    """By user message: when each text chunk was written."""
    faulted: dict[str, str | None] = field(default_factory=dict)
    """By user message: what went wrong with it."""
    received: list[dict[str, Any]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    """That header of every request."""
    received_s: list[float] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    counter: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    release: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(host: str = "127.0.0.1", **options: Any) -> Iterator[Stub]:
    """The stub on a free port of loopback, or of every address."""
    stub = Stub("", Behaviour(**options))
    handler = type("Handler", (_Handler,), {"stub": stub})
    server = ThreadingHTTPServer((host, 0), handler)
    server.daemon_threads = True
    stub.base_url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stub
    finally:
        stub.release.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    stub: Stub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an event waits up to 40 ms for the one before it

    def log_message(self, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        if self.stub.behaviour.require_key and self.path.startswith("/v1") and not self._allowed():
            return
        if not self._known():
            return
        if self.path == "/v1/models" and self.stub.behaviour.models:
            self._json(200, {"data": [{"id": MODEL}]})
        elif self.path == "/health":
            self._json(200, {})
        elif self.path in self.stub.behaviour.pages:
            self._text(200, self.stub.behaviour.pages[self.path])
        else:
            self._json(404, {"error": {"message": "not here"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if not self._known():
            return
        if self.path in self.stub.behaviour.posts:
            self._text(*self.stub.behaviour.posts[self.path])
            return
        if self.path != self.stub.behaviour.below + "/v1/chat/completions":
            self._json(404, {"error": {"message": "not here"}})
            return
        self.stub.received.append(body)
        self.stub.received_s.append(time.perf_counter())
        if self.stub.behaviour.require_key and not self._allowed():
            return
        behaviour = self.stub.behaviour
        if behaviour.refuses and behaviour.refuses in body:
            words = f"'{behaviour.refuses}' is not supported; use 'max_completion_tokens' instead"
            self._json(400, {"error": {"message": words}})
            return
        number = next(self.stub.counter)
        fault = behaviour.fault if number > behaviour.faults_after else None
        fault = dict(enumerate(behaviour.faults, 1)).get(number, fault)
        self.stub.faulted[body["messages"][-1]["content"]] = fault
        if fault and fault.isdigit():
            self._json(int(fault), {"error": {"message": f"stub says {fault}"}})
        elif not body.get("stream"):
            self._answer(body)
        else:
            with suppress(ConnectionError):  # a client that hung up
                self._stream(body, fault)

    def _answer(self, body: dict[str, Any]) -> None:
        usage = self._usage(body)
        if self.stub.behaviour.remembers:
            asked = json.dumps([body.get("cache_salt"), body["messages"]])
            if asked not in self.stub.asked:
                zero = None if self.stub.behaviour.omits_zero else {"cached_tokens": 0}
                usage["prompt_tokens_details"] = zero
            self.stub.asked.add(asked)
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}}
        self._json(
            200,
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": MODEL,
                "choices": [choice | {"finish_reason": "stop"}],
                "usage": usage,
            },
        )

    def _stream(self, body: dict[str, Any], fault: str | None) -> None:
        key = body["messages"][-1]["content"]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if fault == "stall":
            self.stub.release.wait()
            self.close_connection = True
            return
        self._event(self._chunk({"role": "assistant", "content": ""}))
        emitted = self.stub.emitted.setdefault(key, [])
        for n in range(self._tokens(body)):
            self.stub.release.wait(self.stub.behaviour.gap_s)
            if fault == "break" and n == 2:
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            if fault == "error-event" and n == 2:
                self._event({"error": {"message": "engine died", "code": 500}})
                break
            if fault == "null-event" and n == 2:
                self._raw(b"data: null\n\n")
                break
            if fault == "garbage" and n == 2:
                self._raw(b"data: {not json\n\n")
                break
            text = "" if fault == "no-text" else f"t{n} "
            emitted.append(time.perf_counter())
            self._event(self._chunk({"content": text}))
        if self.stub.behaviour.usage:
            self._event({"choices": [], "usage": self._usage(body)})
        self._raw(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _tokens(self, body: dict[str, Any]) -> int:
        fixed = self.stub.behaviour.tokens
        return int(body.get("max_tokens", 6)) if fixed is None else fixed

    def _usage(self, body: dict[str, Any]) -> dict[str, Any]:
        b, tokens = self.stub.behaviour, self._tokens(body)
        details = None if b.cached_tokens is None else {"cached_tokens": b.cached_tokens}
        return {
            "prompt_tokens": b.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": b.prompt_tokens + tokens,
            "prompt_tokens_details": details,
        }

    def _chunk(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"id": PADDING, "choices": [{"index": 0, "delta": delta}]}

    def _event(self, data: dict[str, Any]) -> None:
        self._raw(b"data: " + json.dumps(data).encode() + b"\n\n")

    def _raw(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _known(self) -> bool:
        given, wanted = self.headers.get("Authorization"), self.stub.behaviour.authorization
        self.stub.authorizations.append(given)
        if wanted in (None, given):
            return True
        self._json(401, {"error": {"message": "Unauthorized"}})
        return False

    def _allowed(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {KEY}":
            return True
        self._json(401, {"error": {"message": "Unauthorized"}})
        return False

    def _json(self, status: int, data: dict[str, Any]) -> None:
        self._text(status, json.dumps(data))

    def _text(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
