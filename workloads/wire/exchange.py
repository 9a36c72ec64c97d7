"""One request and its answer: sent, read with the times of arrival, and only then taken apart."""

from __future__ import annotations

import gevent

from aot.workloads.wire.connection import Answer, Wire
from aot.workloads.wire.record import Record
from aot.workloads.wire.stream import server_words, take_answer

A_MOMENT_S = 1e-5
"""Lets the event loop look for what has arrived (sleep(0) would only let greenlets run)."""


def exchange(wire: Wire, body: bytes, record: Record, headers: bytes = b"") -> Answer:
    """Send `body` (with `headers` of its own) and fill `record`; an HTTP error is noted there.

    Raises what `Wire` and `take_answer` raise; what is known by then is in `record`.
    """
    answer = Answer()
    connection, record.sent_s = wire.send(body, headers)
    try:
        wire.read(connection, answer)
    finally:
        record.status = answer.status
    if record.status != 200:
        record.error = f"HTTP {record.status}: {server_words(answer.body)}"
        return answer
    # While one answer is taken apart the pieces of all others wait to be stamped: step by step.
    gevent.sleep(A_MOMENT_S)
    events = answer.events()
    gevent.sleep(A_MOMENT_S)
    take_answer(*events, record)
    gevent.sleep(A_MOMENT_S)
    return answer
