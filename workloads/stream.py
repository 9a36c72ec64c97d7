"""Send one chat request and stamp each piece of its streamed answer as it arrives.

The order matters: read what has arrived, take the time, and only then parse. http.client's read1()
returns as soon as one piece is there, where reading lines or fixed amounts would wait for more
(Locust's FastHttpUser.iter_lines shows the first of several 200-byte events 260 ms late at 50 ms
between events). Under Locust the sockets below are gevent's; nothing here knows.
"""

from __future__ import annotations

import http.client
import json
import select
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from workloads.record import Record
from workloads.sse import EventParser

READ_BYTES = 65536
IDLE_LIMIT_S = 4.0
"""uvicorn closes a connection that was idle for 5 s; ours are dropped before that."""
ERROR_BYTES = 2000


class BrokenStreamError(Exception):
    """The answer ended or said something that a complete answer would not."""


@dataclass(slots=True)
class Connections:
    """Open connections to one server, re-used one request at a time."""

    base_url: str
    timeout_s: float
    clock: Callable[[], float]
    _idle: list[tuple[float, http.client.HTTPConnection]] = field(default_factory=list)
    # Once: loading the certificates takes some 40 ms, in which no chunk would be stamped.
    _tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def path(self, path: str) -> str:
        """`path` below the base URL, which may have a path of its own (a gateway's)."""
        return urlsplit(self.base_url).path.rstrip("/") + path

    def take(self) -> http.client.HTTPConnection:
        """A connection that the server has not closed, opened if need be."""
        while self._idle:
            since, connection = self._idle.pop()
            fresh = self.clock() - since < IDLE_LIMIT_S
            if fresh and connection.sock and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()
        url = urlsplit(self.base_url)
        if url.scheme == "https":
            return http.client.HTTPSConnection(
                url.hostname or "",
                url.port,
                timeout=self.timeout_s,
                context=ssl.create_default_context(),
            )
        return http.client.HTTPConnection(url.hostname or "", url.port, timeout=self.timeout_s)

    def give_back(self, connection: http.client.HTTPConnection) -> None:
        """Keep a connection whose answer was read to its end."""
        self._idle.append((self.clock(), connection))


def send(
    connections: Connections, path: str, body: bytes, headers: dict[str, str], record: Record
) -> None:
    """Send `body` and fill `record` with what happened. A failure becomes `record.error`."""
    connection = connections.take()
    complete = False
    try:
        record.sent_s = connections.clock()
        connection.request("POST", connections.path(path), body, headers)
        response = connection.getresponse()
        record.status = response.status
        if response.status != 200:
            words = response.read(ERROR_BYTES).decode("utf-8", "replace")
            record.error = f"HTTP {response.status}: {_server_words(words)}"
            return
        _read_answer(response, connections.clock, record)
        complete = True
    except TimeoutError:
        record.error = f"timed out: nothing arrived for {connections.timeout_s:g} s"
    except (BrokenStreamError, OSError, http.client.HTTPException) as error:
        record.error = f"{type(error).__name__}: {error}".strip(": ")
    finally:
        if complete and connection.sock is not None:
            connections.give_back(connection)
        else:
            connection.close()


def _read_answer(
    response: http.client.HTTPResponse, clock: Callable[[], float], record: Record
) -> None:
    parser = EventParser()
    done = False
    while data := response.read1(READ_BYTES):
        now = clock()
        for payload in parser.feed(data):
            if payload == b"[DONE]":
                done = True
            elif _take_event(payload, record):
                record.chunk_s.append(now)
    if not done:
        raise BrokenStreamError("the stream ended before [DONE]")
    if not record.chunk_s:
        raise BrokenStreamError("the answer carried no text")
    record.first_token_s, record.last_token_s = record.chunk_s[0], record.chunk_s[-1]


def _take_event(payload: bytes, record: Record) -> bool:
    """Note usage and errors of one event; whether it carries generated text."""
    try:
        event = json.loads(payload)
        if error := event.get("error"):
            raise BrokenStreamError(f"the server sent an error: {str(error)[:300]}")
        if usage := event.get("usage"):
            _take_usage(usage, record)
        choices = event.get("choices") or ()
        return any(_carries_text(choice.get("delta") or {}) for choice in choices)
    except ValueError:
        raise BrokenStreamError(f"an event is not JSON: {payload[:100]!r}") from None
    except (AttributeError, TypeError):
        raise BrokenStreamError(f"an event is no chat chunk: {payload[:100]!r}") from None


def _carries_text(delta: dict[str, Any]) -> bool:
    # A chunk with only the role, or with empty text, is not a token.
    return any(delta.get(k) for k in ("content", "reasoning", "reasoning_content", "tool_calls"))


def _take_usage(usage: dict[str, Any], record: Record) -> None:
    record.prompt_tokens = usage.get("prompt_tokens")
    record.output_tokens = usage.get("completion_tokens")
    # Without --enable-prompt-tokens-details the block is null: unknown, not 0.
    record.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")


def _server_words(body: str) -> str:
    """The message of an OpenAI-style error body, else its beginning."""
    try:
        error = json.loads(body)["error"]
        words = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, TypeError):
        words = body
    return " ".join(str(words).split())[:300]
