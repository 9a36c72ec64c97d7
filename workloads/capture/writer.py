"""The process that writes the log: answers are read and lines are made beside the proxy, not in it,
so that no stream waits for them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess

from aot.workloads.capture.log import CaptureLog
from aot.workloads.capture.passed import Lines, Passed


@dataclass(slots=True)
class Counts:
    """Requests that came by, and what became of their lines."""

    requests: int = 0
    left_out: int = 0
    """Of sessions that are not logged."""
    broken: int = 0
    """Requests that nobody here could read: of them a line says no more than that."""
    written: int | None = 0
    """None: its writer was killed, and nobody knows."""
    lost: int = 0


@dataclass(slots=True)
class Writer:
    """Takes exchanges in their order; `counts` are known when it has ended.

    What was handed over is written even where this process is killed. Where the other one is, that
    stops the log and nothing else.
    """

    log: CaptureLog
    lines: Lines
    report: Callable[[str], None] = lambda _: None
    counts: Counts = field(default_factory=Counts)
    _handed: int = 0
    _gone: bool = False
    _process: ForkProcess | None = None
    _pipe: Connection | None = None
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    """A pipe that is full waits here, and not in the proxy."""

    def start(self) -> None:
        """Before there are other threads. OSError where the log cannot be written at all."""
        self.log.open()
        context = get_context("fork")
        self._pipe, theirs = context.Pipe()
        job = (theirs, self._pipe, self.log, self.lines)
        self._process = context.Process(target=_write_all, args=job)
        self._process.start()
        theirs.close()
        self.log.close()

    def take(self, passed: Passed) -> None:
        """At once; the line comes later."""
        self._thread.submit(self._send, passed)

    def end(self) -> None:
        """All lines are written then. A second time it does nothing."""
        if self._pipe is None or self._process is None:
            return
        self._thread.submit(self._send, None)
        self._thread.shutdown()
        try:
            self.counts = self._pipe.recv()
        except (EOFError, OSError):
            self._say_gone()
            self.counts = Counts(self._handed, written=None)
        self._pipe.close()
        self._process.join()
        self._pipe = self._process = None

    def _send(self, passed: Passed | None) -> None:
        assert self._pipe is not None
        self._handed += passed is not None
        try:
            self._pipe.send(passed)
        except OSError:
            self._say_gone()

    def _say_gone(self) -> None:
        if not self._gone:
            self._gone = True
            self.report(
                f"{self.log.path}: the process that writes it was killed: nothing more is logged "
                "from here on; requests are passed on as before"
            )


def _write_all(pipe: Connection, other_end: Connection, log: CaptureLog, lines: Lines) -> None:
    """Until nothing more can come: the proxy says when it ends, and what a killed one sent is
    read to its end."""
    other_end.close()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # streams go first
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # sent to both; the proxy says when it is over
    counts = Counts()
    try:
        while (passed := pipe.recv()) is not None:
            _write(passed, log, lines, counts)
    except (EOFError, OSError):
        return
    finally:
        log.close()
    counts.written, counts.lost = log.written, log.lost
    pipe.send(counts)


def _write(passed: Passed, log: CaptureLog, lines: Lines, counts: Counts) -> None:
    counts.requests += 1
    try:
        row = lines.of(passed)
    except Exception as error:  # a fault of ours must not make a request vanish
        counts.broken += 1
        row = lines.unread(passed, error)
    if row is None:
        counts.left_out += 1
        return
    log.write(row)
