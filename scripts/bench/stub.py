"""The server that client.py measures against: streams of chat chunks at a known pace.

    python scripts/bench/stub.py PORT

Each request says in its body how many tokens it gets ("max_tokens") and how many a second
("per_s", 0: as fast as they are taken). Every chunk is one write, stamped on CLOCK_MONOTONIC just
before. GET /stamps?ID tells when the chunks of the request with that user message were written.
"""

from __future__ import annotations

import heapq
import json
import select
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

CHUNK: dict[str, Any] = {
    "id": "chatcmpl-3b1f0c9b2e8d4f6a9c7e5d3b1a0f8e6d", "object": "chat.completion.chunk",
    "created": 1764000000, "model": "golden",
}  # fmt: skip
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def framed(payload: bytes) -> bytes:
    event = b"data: " + payload + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(event), event)


def chunk(delta: dict[str, Any]) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return framed(json.dumps({**CHUNK, "choices": [choice]}, separators=(",", ":")).encode())


ROLE = chunk({"role": "assistant", "content": ""})
TEXTS = [chunk({"content": f" word{n}"}) for n in range(64)]


def ending(tokens: int) -> bytes:
    usage = {"prompt_tokens": 9, "completion_tokens": tokens, "total_tokens": tokens + 9}
    return (
        framed(json.dumps({**CHUNK, "choices": [], "usage": usage}).encode())
        + framed(b"[DONE]")
        + b"0\r\n\r\n"
    )


@dataclass(slots=True)
class Stream:
    """One answer under way."""

    connection: socket.socket
    tokens: int
    per_s: float
    begin: float
    stamps: list[float]
    sent: int = 0


class Stub:
    """One thread, one loop, no timers: asyncio's are rounded to milliseconds, which would send the
    chunks of many streams in bursts. It spins on a core of its own while streams are due."""

    def __init__(self, port: int) -> None:
        self.stamps: dict[str, list[float]] = {}
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.connections: dict[int, socket.socket] = {}
        self.received: dict[int, bytes] = {}
        self.due: list[tuple[float, int, Stream]] = []
        self.number = 0

    def run(self) -> None:
        while True:
            now = time.perf_counter()
            while self.due and self.due[0][0] <= now:
                self._step(heapq.heappop(self.due)[2])
                now = time.perf_counter()
            # A wait is rounded up to a millisecond: the last stretch is spun through.
            wait_s = self.due[0][0] - now - 0.002 if self.due else 0.05
            for descriptor, _ in self.poll.poll(max(0.0, wait_s)):
                self._readable(descriptor)

    def _readable(self, descriptor: int) -> None:
        if descriptor == self.listener.fileno():
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections[connection.fileno()] = connection
            self.received[connection.fileno()] = b""
            self.poll.register(connection, select.EPOLLIN)
            return
        connection = self.connections[descriptor]
        try:
            data = connection.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.poll.unregister(descriptor)
            connection.close()
            return
        self.received[descriptor] += data
        self._request(descriptor, connection)

    def _request(self, descriptor: int, connection: socket.socket) -> None:
        head, end, rest = self.received[descriptor].partition(b"\r\n\r\n")
        if not end:
            return
        if head.startswith(b"GET"):
            body = json.dumps(self.stamps).encode()
            answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
            connection.sendall(answer)
            self.stamps, self.received[descriptor] = {}, b""
            return
        lines = head.lower().split(b"\r\n")
        length = next(int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length"))
        if len(rest) < length:
            return
        self.received[descriptor] = rest[length:]
        self._begin(connection, json.loads(rest[:length]))

    def _begin(self, connection: socket.socket, body: dict[str, Any]) -> None:
        tokens, per_s = body["max_tokens"], body.get("per_s", 0)
        stamps = self.stamps.setdefault(body["messages"][-1]["content"], [])
        now = time.perf_counter()
        if not per_s:
            # All at once: faster than any client, so that it is the client that is measured.
            stamps += [now] * tokens
            texts = b"".join(TEXTS[n % len(TEXTS)] for n in range(tokens))
            connection.sendall(HEAD + ROLE + texts + ending(tokens))
            return
        connection.sendall(HEAD + ROLE)
        self._later(Stream(connection, tokens, per_s, now, stamps))

    def _later(self, stream: Stream) -> None:
        self.number += 1
        due = stream.begin + (stream.sent + 1) / stream.per_s
        heapq.heappush(self.due, (due, self.number, stream))

    def _step(self, stream: Stream) -> None:
        stream.stamps.append(time.perf_counter())
        try:
            stream.connection.send(TEXTS[stream.sent % len(TEXTS)])
        except OSError:
            return  # its client has given up
        stream.sent += 1
        if stream.sent < stream.tokens:
            self._later(stream)
        else:
            stream.connection.send(ending(stream.tokens))


if __name__ == "__main__":
    stub = Stub(int(sys.argv[1]))
    print("listening", flush=True)
    stub.run()
