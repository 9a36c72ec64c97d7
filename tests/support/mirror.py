"""A server of every kind of endpoint that keeps what it was sent, and answers with one token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Sent = list[tuple[str, dict[str, Any]]]
USAGE = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 0}}


def _events(path: str) -> list[dict[str, Any]]:
    if path.endswith("/messages"):
        return [
            {"type": "message_start", "message": {"usage": {"input_tokens": 5}}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}},
            {"type": "message_delta", "delta": {"stop_reason": "max_tokens"},
             "usage": {"output_tokens": 1}},
            {"type": "message_stop"},
        ]  # fmt: skip
    if path.endswith("/responses"):
        usage = {"input_tokens": 5, "output_tokens": 1}
        done = {"status": "completed", "usage": usage}
        return [
            {"type": "response.output_text.delta", "delta": "x"},
            {"type": "response.completed", "response": done},
        ]
    said = {"delta": {"content": "x"}} if path.endswith("/chat/completions") else {"text": "x"}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "usage": USAGE}
    return [{"choices": [{"index": 0, **said}]}, last]


@contextmanager
def mirror() -> Iterator[tuple[str, Sent]]:
    """Its base URL, and what it was sent: (path, body)."""
    sent: Sent = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            found = self.path.endswith("/models")
            self._answer(
                json.dumps({"data": [{"id": "served"}]} if found else {}), "application/json"
            )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sent.append((self.path, body))
            lines = [f"data: {json.dumps(e)}\n\n" for e in _events(self.path)]
            end = (
                []
                if "/messages" in self.path or "/responses" in self.path
                else ["data: [DONE]\n\n"]
            )
            self._answer("".join([*lines, *end]), "text/event-stream")

        def _answer(self, text: str, kind: str) -> None:
            data = text.encode()
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    class Server(ThreadingHTTPServer):
        request_queue_size = 512

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()
