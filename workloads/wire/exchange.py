"""One request and its answer: sent, read with the times of arrival, and only then taken apart."""

from __future__ import annotations

import gevent
from gevent.timeout import Timeout

from aot.configs.dialects.dialect import BrokenAnswerError
from aot.workloads.requests.limits import CancelledError
from aot.workloads.wire import words
from aot.workloads.wire.answer import Answer
from aot.workloads.wire.connection import Wire
from aot.workloads.wire.record import Record
from aot.workloads.wire.stream import take_answer

A_MOMENT_S = 1e-5
"""Lets the event loop look for what has arrived (sleep(0) would only let greenlets run)."""


def exchange(
    wire: Wire, body: bytes, record: Record, headers: bytes = b"", cancel_s: float | None = None
) -> None:
    """Send `body` (with `headers` of its own) and fill `record`; a refusal is noted there. Hang up
    after `cancel_s` seconds where that is given.

    Raises what `Wire` raises, CancelledError and BrokenAnswerError; what is known by then is in
    `record`, chunks of an answer that broke off included.
    """
    answer = Answer(wire.dialect.end, wire.dialect.end_within)
    try:
        with Timeout(cancel_s, CancelledError):
            _sent_and_read(wire, body, headers, answer, record)
    except BaseException:
        if answer.status == 200:
            _take_what_came(wire, answer, record)
        raise
    finally:
        record.status = answer.status
    if record.status != 200:
        record.error = words.of_refusal(answer)
        return
    # While one answer is taken apart the pieces of all others wait to be stamped: step by step.
    gevent.sleep(A_MOMENT_S)
    times, payloads = answer.events()
    gevent.sleep(A_MOMENT_S)
    if not payloads:
        raise BrokenAnswerError(words.of_no_stream(answer))
    for _ in take_answer(times, payloads, wire.dialect, record):
        gevent.sleep(A_MOMENT_S)
    gevent.sleep(A_MOMENT_S)


def _sent_and_read(wire: Wire, body: bytes, headers: bytes, answer: Answer, record: Record) -> None:
    """On a kept connection, or a new one. A kept one may be closed by the server just now: where it
    dies before there is a byte of an answer, the request goes once more, on a new one."""
    connection = wire.kept()
    if connection is not None:
        try:
            record.sent_s = wire.send(connection, body, headers)
            wire.read(connection, answer, record.sent_s)
            return
        except OSError:
            if answer.arrived:
                raise
            record.resent = True
    connection = wire.opened()
    sent_s = wire.send(connection, body, headers)
    if not record.resent:
        record.sent_s = sent_s  # the wait for the first try is part of what the user waits
    wire.read(connection, answer, sent_s)


def _take_what_came(wire: Wire, answer: Answer, record: Record) -> None:
    try:
        for _ in take_answer(*answer.events(), wire.dialect, record):
            pass
    except BrokenAnswerError:
        return
