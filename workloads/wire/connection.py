"""Send a request and note every piece of its answer with the time it came, on gevent's own loop.

A read is one callback of the event loop: receive, take the time, keep. No greenlet is switched to
and nothing is parsed until the answer is complete, so that 256 streams of 50 tokens a second are
stamped as they arrive (scripts/bench/client.py measures it). Locust's own FastHttpUser.iter_lines
fills a buffer of 1,024 bytes first: it shows the first of several 200-byte events five events late.
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gevent.hub import Waiter, get_hub
from gevent.timeout import Timeout
from geventhttpclient.response import HTTPResponse

from aot.workloads.wire.opening import Opening
from aot.workloads.wire.sse import EventParser, events

READ_BYTES = 65536
IDLE_LIMIT_S = 4.0
"""uvicorn closes a connection that was idle for 5 s; ours are dropped before that."""
LAST_CHUNK = b"0\r\n\r\n"
READABLE = 1
EMPTY_LINE = re.compile(rb"\n\n")

Reads = list[tuple[float, bytes]]
"""When something arrived, and what."""


class Answer(HTTPResponse):
    """A response, and when each piece of it came. `take` is given what arrived, in order."""

    def __init__(self) -> None:
        super().__init__("POST")
        self.reads: Reads = []
        self._fed: list[bytes | bytearray] = []

    @property
    def status(self) -> int | None:
        """None while no head has arrived."""
        return self.status_code if self.headers_complete else None

    @property
    def body(self) -> bytes:
        """All of it that has arrived."""
        return b"".join(self._fed)

    def _on_body(self, data: bytes | bytearray) -> None:
        self._fed.append(data)

    def take(self, reads: Reads) -> None:
        """More has arrived; parsed in one go."""
        self.reads += reads
        self.feed(b"".join([data for _, data in reads]))

    def events(self) -> tuple[list[float], list[bytes]]:
        """The events of a streamed body, and when the last byte of each arrived."""
        payloads = events(self.body)
        raw = b"".join([data for _, data in self.reads])
        # HTTP's own lines end with \r\n: an empty line of the body is one of the wire, and only it.
        ends = [match.end() for match in EMPTY_LINE.finditer(raw)]
        if len(ends) != len(payloads):
            return self._piece_by_piece()
        return self._times_of(ends), payloads

    def _times_of(self, ends: list[int]) -> list[float]:
        times = []
        reads = iter(self.reads)
        now, data = next(reads)
        arrived = len(data)
        for end in ends:
            while end > arrived:
                now, data = next(reads)
                arrived += len(data)
            times.append(now)
        return times

    def _piece_by_piece(self) -> tuple[list[float], list[bytes]]:
        """For a server that writes its events in an unusual way: comments, CRLF, split lines."""
        again, parser = Answer(), EventParser()
        times: list[float] = []
        payloads: list[bytes] = []
        for now, data in self.reads:
            again.feed(data)
            new_payloads = parser.feed(again.body)
            again._fed.clear()
            times += [now] * len(new_payloads)
            payloads += new_payloads
        return times, payloads


@dataclass(slots=True)
class Wire:
    """Connections to one server, re-used one request at a time."""

    base_url: str
    timeout_s: float
    clock: Callable[[], float]
    headers: dict[str, str] = field(default_factory=dict)
    _idle: list[tuple[float, Any]] = field(default_factory=list)
    _opening: Any = None
    _head: bytes = b""

    def __post_init__(self) -> None:
        self._opening = Opening(self.base_url, self.timeout_s)
        lines = {"Host": self._opening.host, **self._opening.headers, **self.headers}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._head = f"POST {self._opening.target} HTTP/1.1\r\n{text}Content-Length: ".encode()

    def send(self, body: bytes, more: bytes = b"") -> tuple[Any, float]:
        """Write a request; the connection to read from, and when writing began. `more`: headers of
        this request alone, each with its line end.

        Raises OSError when no connection can be made or it breaks.
        """
        connection = self._take()
        sent_s = self.clock()
        try:
            connection.sendall(b"%s%d\r\n%s\r\n%s" % (self._head, len(body), more, body))
        except BaseException:
            connection.close()
            raise
        return connection, sent_s

    def read(self, connection: Any, answer: Answer) -> None:
        """Read the whole answer into `answer`, which keeps what there is of one that breaks off.

        Raises TimeoutError when nothing arrives for `timeout_s`, OSError when the connection
        breaks, ConnectionError when it ends too early. The connection is kept for the next request
        when the answer was read to its end, and closed in any other case.
        """
        try:
            while not answer.message_complete:
                reads = self._next(connection, answer.headers_complete)
                ended = not reads[-1][1]
                answer.take(reads[:-1] if ended else reads)
                if ended and not answer.message_complete:
                    raise ConnectionError("the connection ended before the answer did")
        finally:
            if answer.message_complete and not answer.should_close():
                self._idle.append((self.clock(), connection))
            else:
                connection.close()

    def _next(self, connection: Any, one_by_one: bool) -> Reads:
        """What arrives until the answer seems complete; only the next piece, if `one_by_one`."""
        if self._opening.is_secure:
            return self._next_piece(connection)
        reads: Reads = []
        with get_hub().loop.io(connection.fileno(), READABLE) as watcher:
            waiter: Any = Waiter()
            receive, clock, keep = connection._sock.recv, self.clock, reads.append

            def ready() -> None:
                try:
                    data = receive(READ_BYTES)
                except BlockingIOError:
                    return
                except OSError as error:
                    watcher.stop()
                    waiter.throw(error)
                    return
                keep((clock(), data))
                # Chunked answers end like this (and may, rarely, look like it before: who reads
                # them parses, and comes back). Others are told by their parser, piece by piece.
                if (
                    data.endswith(LAST_CHUNK)
                    or not data
                    or one_by_one
                    or (len(reads) == 1 and not _is_chunked(data))
                ):
                    watcher.stop()
                    waiter.switch(None)

            watcher.start(ready)
            self._wait(waiter, reads)
        return reads

    def _wait(self, waiter: Any, reads: Reads) -> None:
        since = self.clock()
        while True:
            left = self.timeout_s - (self.clock() - (reads[-1][0] if reads else since))
            if left <= 0:
                raise TimeoutError
            with Timeout(left, False):
                waiter.get()
                return

    def _next_piece(self, connection: Any) -> Reads:
        connection.settimeout(self.timeout_s)
        data = connection.recv(READ_BYTES)
        return [(self.clock(), data)]

    def _take(self) -> Any:
        """A connection that the server has not closed, opened if need be."""
        while self._idle:
            since, connection = self._idle.pop()
            fresh = self.clock() - since < IDLE_LIMIT_S
            if fresh and not select.select([connection.fileno()], [], [], 0)[0]:
                return connection
            connection.close()
        return self._opening.open()


def _is_chunked(head: bytes) -> bool:
    return b"transfer-encoding: chunked" in head[:2000].lower()
