"""Send a request and note every piece of its answer with the time it came, on gevent's own loop.

A read is one callback of the event loop: receive, take the time, hand it to the parser. No greenlet
is switched to until the answer is over, so that 256 streams of 50 tokens a second are stamped as
they arrive (scripts/bench/client.py measures it). Locust's own FastHttpUser.iter_lines fills a
buffer of 1,024 bytes first: it shows the first of several 200-byte events five events late.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from gevent.hub import Waiter, get_hub
from gevent.monkey import get_original
from gevent.timeout import Timeout

from aot.configs.dialects.dialect import Dialect
from aot.workloads.requests.limits import LateError, Limits
from aot.workloads.wire.answer import Answer, HTTPParseError
from aot.workloads.wire.opening import Opening
from aot.workloads.wire.stream import is_over, last_text_s

READ_BYTES = 65536
IDLE_LIMIT_S = 4.0
"""uvicorn closes a connection that was idle for 5 s; ours are dropped before that."""
GRACE_S = 0.02
"""How long the end of HTTP's message is waited for when the answer itself is over: a server that
closes it later must not hold up the next request."""
READABLE = 1


@dataclass(slots=True)
class Wire:
    """Connections to one server, re-used one request at a time. `target`: the path of requests."""

    base_url: str
    target: str
    dialect: Dialect
    limits: Limits
    clock: Callable[[], float]
    headers: dict[str, str] = field(default_factory=dict)
    _idle: list[tuple[float, Any]] = field(default_factory=list)
    _opening: Any = None
    _head: bytes = b""

    def __post_init__(self) -> None:
        self._opening = Opening(self.base_url, self.target)
        lines = {"Host": self._opening.host, **self._opening.headers, **self.headers}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._head = f"POST {self._opening.target} HTTP/1.1\r\n{text}Content-Length: ".encode()

    def kept(self) -> Any:
        """A connection of an earlier request that the server has not closed; None without one."""
        while self._idle:
            since, connection = self._idle.pop()
            if self.clock() - since < IDLE_LIMIT_S and not _has_news(connection):
                return connection
            connection.close()
        return None

    def close(self) -> None:
        """Let go of all kept connections."""
        while self._idle:
            self._idle.pop()[1].close()

    def opened(self) -> Any:
        """A new connection. Raises OSError, or LateError."""
        late = self.limits.unconnected()
        with _within(self.limits.connect_s, late):
            try:
                return self._opening.open(self.limits.connect_s)
            except TimeoutError:
                raise late from None

    def send(self, connection: Any, body: bytes, more: bytes = b"") -> float:
        """Write a request; when that began. `more`: headers of this request alone, each with its
        line end. Raises OSError when the connection breaks, or LateError; it is closed then.
        """
        sent_s = self.clock()
        try:
            with _within(self.limits.first_text_s, self.limits.unwritten()):
                connection.sendall(b"%s%d\r\n%s\r\n%s" % (self._head, len(body), more, body))
        except BaseException:
            connection.close()
            raise
        return sent_s

    def read(self, connection: Any, answer: Answer, sent_s: float) -> None:
        """Read until the answer is over; `answer` keeps what there is of one that breaks off.

        Raises LateError when a limit passes, OSError when the connection breaks, ConnectionError
        when it ends too early, HTTPParseError. The connection is kept for the next request where
        nothing more can come on it, and closed in any other case.
        """
        try:
            read = self._read_secure if self._opening.is_secure else self._read
            read(connection, answer, sent_s)
        finally:
            if answer.reusable:
                self._idle.append((self.clock(), connection))
            else:
                connection.close()

    def _read(self, connection: Any, answer: Answer, sent_s: float) -> None:
        waiter: Any = Waiter()
        with get_hub().loop.io(connection.fileno(), READABLE) as watcher:
            ready = _arrival(watcher, waiter, connection._sock.recv, self.clock, answer)
            while not answer.complete:
                watcher.start(ready)
                has_ended = self._wait(waiter, answer, sent_s)
                waiter.clear()
                if has_ended:
                    _end(answer)
                elif not answer.complete and self._is_over(answer):
                    watcher.start(ready)
                    # How HTTP ends, or the connection, says nothing of an answer that is over.
                    with Timeout(GRACE_S, False), suppress(OSError, HTTPParseError):
                        waiter.get()
                    return

    def _is_over(self, answer: Answer) -> bool:
        answer.may_be_over = False  # until it is said again
        return is_over(answer.last_event(), self.dialect)

    def _wait(self, waiter: Any, answer: Answer, sent_s: float) -> bool:
        """Until something decides; whether that is the end of the connection."""
        while True:
            with Timeout(self._left(answer, sent_s), False):
                return bool(waiter.get())

    def _left(self, answer: Answer, sent_s: float) -> float:
        """Seconds until the next limit. Raises LateError where one has passed."""
        now = self.clock()
        if now - sent_s >= self.limits.total_s:
            raise self.limits.endless()
        texts, last_s = last_text_s(*answer.events(), self.dialect) if answer.status else (0, None)
        due = (
            sent_s + self.limits.first_text_s
            if last_s is None
            else last_s + self.limits.between_texts_s
        )
        if now >= due:
            raise self.limits.silent(texts)
        return min(due, sent_s + self.limits.total_s) - now

    def _read_secure(self, connection: Any, answer: Answer, sent_s: float) -> None:
        due_s, over = self.clock() + self._left(answer, sent_s), False
        while not answer.complete:
            left_s = due_s - self.clock()
            if over and left_s <= 0:
                return
            data = _received(connection, max(left_s, GRACE_S), over)
            now = self.clock()
            if data:
                answer.take(now, data)
            elif over:
                return
            elif data is not None:
                _end(answer)
            if not over and answer.may_be_over and self._is_over(answer):
                due_s, over = now + GRACE_S, True
            elif not over and now >= due_s:
                due_s = now + self._left(answer, sent_s)  # says which one has passed


def _received(connection: Any, within_s: float, over: bool) -> bytes | None:
    """What arrives; empty at the end of the connection, None where nothing does. `over`: how the
    connection ends is of no interest any more."""
    connection.settimeout(within_s)
    try:
        data: bytes = connection.recv(READ_BYTES)
    except TimeoutError:
        return None
    except OSError:
        if over:
            return None
        raise
    return data


def _arrival(
    watcher: Any, waiter: Any, receive: Callable[[int], bytes], clock: Callable[[], float],
    answer: Answer,
) -> Callable[[], None]:  # fmt: skip
    """What is done when something has arrived. The waiter goes on when it decides something, and is
    told whether it is the end of the connection."""

    def ready() -> None:
        try:
            data = receive(READ_BYTES)
            if data:
                answer.take(clock(), data)
        except BlockingIOError:
            return
        except (OSError, HTTPParseError) as error:
            watcher.stop()
            waiter.throw(error)
            return
        if not data or answer.complete or answer.may_be_over:
            watcher.stop()
            waiter.switch(not data)

    return ready


def _has_news(connection: Any) -> bool:
    """Whether something has arrived on a connection that nobody asked on: its end, mostly. Not by
    select(), which knows no descriptor above 1,023."""
    poll = get_original("select", "poll")()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _end(answer: Answer) -> None:
    """The connection has ended. Raises ConnectionError where the answer had not."""
    answer.ended()
    if not answer.complete:
        raise ConnectionError("the connection ended before the answer did")


@contextmanager
def _within(limit_s: float, error: LateError) -> Iterator[None]:
    with Timeout(limit_s, error):
        yield
