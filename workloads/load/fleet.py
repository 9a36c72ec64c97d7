"""One replay by many processes, on this machine or on several, over Locust's own messages.

The master holds the clock and the files; each worker sends whole sessions, its share by their
number. Before the start every worker measures how far its clock is from the master's (the round
trip with the shortest way decides), so that all records are on one time axis. Records go to the
master as they are made: of a worker that dies only what was under way is lost, and each request of
its share that is missing becomes a record that says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent.event import Event

from aot.workloads.load.sink import Sink
from aot.workloads.requests.request import Request, Schedule
from aot.workloads.wire.record import Record

PINGS = 12
FLUSH_S = 0.2
WATCH_S = 0.5
MISSING = "missing"
READY_S = 60.0


def share(schedule: Schedule, worker: int, workers: int) -> list[Request]:
    """The requests of one worker: every so many-th session, whole."""
    number_of: dict[str, int] = {}
    sessions = 0
    requests = []
    for request in schedule.requests:
        if request.after is None:
            number_of[request.id] = sessions
            sessions += 1
        else:
            number_of[request.id] = number_of[request.after]
        if number_of[request.id] % workers == worker:
            requests.append(request)
    return requests


class Worker:
    """The worker's end. `offset_s`: the master's clock less ours."""

    def __init__(self, runner: Any) -> None:
        self.runner = runner
        self.offset_s = 0.0
        self.zero = 0.0
        self.share = (0, 1)
        """Which one of how many."""
        self._answered: dict[int, tuple[float, float]] = {}
        self._arrived, self._go = Event(), Event()
        self._lines: list[str] = []
        runner.register_message("aot_pong", self._pong)
        runner.register_message("aot_go", self._started)

    def join(self, schedule_sha256: str) -> None:
        """Measure the offset, report for duty, and wait for the start."""
        best = float("inf")
        for number in range(PINGS):
            self._arrived.clear()
            sent = time.perf_counter()
            self.runner.send_message("aot_ping", {"number": number})
            if not self._arrived.wait(5.0):
                continue
            theirs, arrived = self._answered[number]
            if arrived - sent < best:
                best = arrived - sent
                self.offset_s = theirs - (sent + arrived) / 2
        self.runner.send_message(
            "aot_ready",
            {
                "worker": self.runner.worker_index, "sha256": schedule_sha256,
                "round_trip_s": best, "offset_s": self.offset_s,
            },
        )  # fmt: skip
        self._go.wait()
        gevent.spawn(self._flush_often)

    def keep(self, record: Record) -> None:
        self._lines.append(record.to_line())

    def done(self, load: dict[str, Any]) -> None:
        """All of this worker's share is answered."""
        self._flush()
        self.runner.send_message("aot_done", {"worker": self.runner.worker_index, "load": load})

    def _pong(self, environment: Any, msg: Any, **_: Any) -> None:
        del environment
        self._answered[msg.data["number"]] = (msg.data["clock"], time.perf_counter())
        self._arrived.set()

    def _started(self, environment: Any, msg: Any, **_: Any) -> None:
        del environment
        self.zero = msg.data["zero"] - self.offset_s
        self.share = msg.data["share"], msg.data["workers"]
        self._go.set()

    def _flush_often(self) -> None:
        while True:
            gevent.sleep(FLUSH_S)
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            lines, self._lines = "".join(self._lines), []
            data = {"worker": self.runner.worker_index, "lines": lines}
            self.runner.send_message("aot_records", data)


@dataclass(slots=True)
class Master:
    """The master's end. `finish` is called when every request has a record."""

    runner: Any
    schedule: Schedule
    sink: Callable[[float], Sink]
    """Makes the files, given the start on this clock."""
    workers: int
    sha256: str
    finish: Callable[[str | None], None]
    """Given what went wrong, if anything."""
    unwritten: Callable[[OSError], None]
    """Told when a record cannot be written."""
    files: Sink | None = None
    _ready: dict[int, str] = field(default_factory=dict)
    """Locust's name of each worker."""
    _facts: dict[int, dict[str, Any]] = field(default_factory=dict)
    _recorded: dict[int, set[str]] = field(default_factory=dict)
    _done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name in ("ping", "ready", "records", "done"):
            self.runner.register_message(f"aot_{name}", getattr(self, f"_on_{name}"))

    def watch(self) -> None:
        """Until all is done or lost: look for workers that died."""
        began = time.perf_counter()
        while len(self._done) < self.workers:
            gevent.sleep(WATCH_S)
            if len(self._ready) < self.workers:
                if time.perf_counter() - began > READY_S:
                    self.finish(f"only {len(self._ready)} of {self.workers} workers came")
                    return
                continue
            for worker, client in self._ready.items():
                node = self.runner.clients.get(client)
                if worker not in self._done and (node is None or node.state == MISSING):
                    self._lost(worker)
        self.finish(None)

    def _write(self, worker: int, lines: str) -> None:
        assert self.files is not None
        try:
            self.files.write(worker, lines)
        except OSError as error:
            self.unwritten(error)

    def _on_ping(self, environment: Any, msg: Any, **_: Any) -> None:
        del environment
        answer = {"number": msg.data["number"], "clock": time.perf_counter()}
        self.runner.send_message("aot_pong", answer, client_id=msg.node_id)

    def _on_ready(self, environment: Any, msg: Any, **_: Any) -> None:
        del environment
        if msg.data["sha256"] != self.sha256:
            self.finish(f"worker {msg.data['worker']} has another schedule file")
            return
        worker = msg.data["worker"]
        self._ready[worker] = msg.node_id
        self._facts[worker] = {k: msg.data[k] for k in ("offset_s", "round_trip_s")}
        if len(self._ready) == self.workers:
            zero = time.perf_counter() + WATCH_S
            self.files = self.sink(zero)
            for number in self._ready:
                self._write(number, "")
            for number, worker_ in enumerate(sorted(self._ready)):
                data = {"zero": zero, "share": number, "workers": self.workers}
                self.runner.send_message("aot_go", data, client_id=self._ready[worker_])

    def _on_records(self, environment: Any, msg: Any, **_: Any) -> None:
        del environment
        assert self.files is not None
        worker = msg.data["worker"]
        recorded = self._recorded.setdefault(worker, set())
        for line in msg.data["lines"].splitlines(keepends=True):
            id_ = line.split('"', 4)[3]  # the first field of a record
            if id_ not in recorded:  # one that was given up as lost may still come in
                recorded.add(id_)
                self._write(worker, line)

    def _on_done(self, environment: Any, msg: Any, **_: Any) -> None:
        del environment
        assert self.files is not None
        worker = msg.data["worker"]
        with suppress(OSError):
            self.files.load(worker, {**msg.data["load"], **self._facts[worker]})
        self._done.add(worker)

    def _lost(self, worker: int) -> None:
        """A worker died: each of its requests without a record becomes one."""
        assert self.files is not None
        order = sorted(self._ready)
        recorded = self._recorded.setdefault(worker, set())
        for request in share(self.schedule, order.index(worker), self.workers):
            if request.id not in recorded:
                record = Record(
                    request.id, self.files.arm, self.files.repeat, request.tenant, request.prefix,
                    request.at_s, None, error=f"lost: load worker {worker} died",
                )  # fmt: skip
                self._write(worker, record.to_line())
                recorded.add(request.id)
        self._done.add(worker)
