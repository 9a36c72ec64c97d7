"""A replay inside a Locust process: alone, as the master of several, or as one of their workers."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event

from aot.configs.dialects.dialect import Render, joined
from aot.configs.dialects.wording import USUAL, Wording, merged
from aot.configs.kernel import network
from aot.configs.kernel.salts import Salts
from aot.configs.kernel.secrecy import held_in
from aot.workloads.load.dispatch import Dispatcher, calm
from aot.workloads.load.fleet import Master, Worker, share
from aot.workloads.load.replay import CANNOT_WRITE, WORDING_VARIABLE
from aot.workloads.load.sink import Sink
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests import tokens
from aot.workloads.requests.limits import Limits
from aot.workloads.requests.request import Request, Schedule
from aot.workloads.wire.bodies import Bodies
from aot.workloads.wire.connection import Wire
from aot.workloads.wire.record import Record

LEAD_S = 0.2
"""Head start before the first planned time, so that spawning users does not make it late."""
SHOWN_EVERY_S = 0.5


def unwritten(environment: Any, error: OSError) -> None:
    """End a replay whose records cannot be written any more; those that are there are kept."""
    with suppress(OSError):  # our log may be on the same disk
        sys.stderr.write(f"aot: records cannot be written: {error.strerror}\n")
    environment.process_exit_code = environment.aot_failed = CANNOT_WRITE
    gevent.spawn(environment.runner.quit)


def sink(options: Any, zero: float) -> Sink:
    """The files of this replay."""
    digest = schedule_file.digest(Path(options.schedule))
    return Sink(Path(options.records), options.arm, options.repeat, digest, zero)


def _wording(schedule: Schedule) -> Wording:
    """What `aot load` was told, else what the schedule is for."""
    text = os.environ.get(WORDING_VARIABLE)
    return (Wording.from_json(text) if text else USUAL).for_endpoint(schedule.endpoint)


def _render(folder: str | None) -> Render:
    """How the text of a prompt is made, with the tokenizer in `folder`."""
    tokenizer = tokens.from_folder(Path(folder), plain=True) if folder else None
    return tokenizer.prompt_text if tokenizer else joined


class Head:
    """The master of several workers: it sends nothing itself."""

    def __init__(self, environment: Any) -> None:
        options = environment.parsed_options
        self.environment = environment
        self.master = Master(
            environment.runner,
            schedule_file.read(Path(options.schedule)),
            lambda zero: sink(options, zero),
            options.expect_workers,
            schedule_file.digest(Path(options.schedule)),
            self._finish,
            lambda error: unwritten(environment, error),
        )

    def start(self) -> None:
        gevent.spawn(self.master.watch)

    def close(self) -> None:
        if self.master.files is not None:
            with suppress(OSError):
                self.master.files.close()

    def _finish(self, problem: str | None) -> None:
        if problem:
            sys.stderr.write(f"aot: {problem}\n")
            self.environment.process_exit_code = self.environment.aot_failed = 1
        gevent.spawn(self.environment.runner.quit)


class Replay:
    """One replay of the schedule in this process, or of its share of it."""

    def __init__(self, environment: Any, *, worker: bool) -> None:
        options = environment.parsed_options
        self.environment = environment
        self.options = options
        # Kept here: a worker is told its master's, which may be another way to the same server.
        self.host = network.base_url(environment.host, "--host")
        self.schedule: Schedule = schedule_file.read(Path(options.schedule))
        salts = Salts(options.salt_nonce, options.salt_per) if options.salt_nonce else None
        self.wording = _wording(self.schedule)
        self.bodies = Bodies(
            self.schedule, options.model, salts, options.key_header, options.tenant_salts,
            self.wording, _render(options.template),
        )  # fmt: skip
        self.headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if login := os.environ.get(network.LOGIN_VARIABLE):
            network.remember(self.host, login)
        key = held_in(options.api_key_env, "--api-key-env") if options.api_key_env else None
        given = self.wording.sent_headers(self.host, key, "--api-key-env")
        self.headers = merged(self.headers, given)
        self.worker = Worker(environment.runner) if worker else None
        self.files: Sink | None = None
        self.started = Event()
        self.finished = False

    def start(self) -> None:
        gevent.spawn(self._start)

    def _start(self) -> None:
        requests = None
        if self.worker is not None:
            self.worker.join(schedule_file.digest(Path(self.options.schedule)))
            self.zero = self.worker.zero
            requests = share(self.schedule, *self.worker.share)
        else:
            self.zero = time.perf_counter() + (LEAD_S if self.schedule.mode == "open" else 0.0)
            self.files = sink(self.options, self.zero)
            self.files.write(0, "")
        self.cpu_before_s = time.process_time()
        kinds = {None, *(r.endpoint for r in self.schedule.requests)}
        self.dispatcher = Dispatcher(
            self.schedule, {kind: self._wire(kind) for kind in kinds}, self.bodies,
            self.options.arm, self.options.repeat, self._keep, requests,
        )  # fmt: skip
        calm()
        gevent.spawn(self.dispatcher.watch_lag)
        if self.files is not None:
            gevent.spawn(self._show_in_flight, self.files.folder / "in-flight")
        self.started.set()

    def _wire(self, kind: str | None) -> Wire:
        """To one kind of endpoint; None: what the schedule is for."""
        wording = self.wording.at(kind) if kind else self.wording
        return Wire(
            self.host,
            wording.target(self.options.model),
            wording.dialect,
            Limits.of(self.schedule.timeout_s, **self.schedule.limits),
            self.clock,
            self.headers,
        )

    def _show_in_flight(self, path: Path) -> None:
        """For whoever watches the replay from outside."""
        while self.dispatcher.left:
            with suppress(OSError):
                path.write_text(str(self.dispatcher.in_flight))
            gevent.sleep(SHOWN_EVERY_S)
        path.unlink(missing_ok=True)

    def clock(self) -> float:
        """Seconds since the start of the replay."""
        return time.perf_counter() - self.zero

    def next(self) -> Request | None:
        """Claim the next session; whoever claims it sends it."""
        self.started.wait()
        roots = self.dispatcher.roots
        return roots.popleft() if roots else None

    def finish(self) -> None:
        """Wait for the answers still under way, then end the test."""
        while self.dispatcher.left:
            gevent.sleep(0.02)
        if self.finished:
            return
        self.finished = True
        if self.worker is not None:
            self.worker.done(self._load())  # the master ends the test when all are done
            return
        runner = self.environment.runner
        # With the web UI the process stays, so that its figures can be looked at.
        gevent.spawn(runner.stop if self.environment.web_ui else runner.quit)

    def close(self) -> None:
        if self.files is None:
            return
        with suppress(OSError):  # said already
            self.files.close()
            self.files.load(0, self._load())
        (self.files.folder / "in-flight").unlink(missing_ok=True)
        for wire in self.dispatcher.wires.values():
            wire.close()
        self.files, self.finished = None, False
        self.started.clear()

    def _load(self) -> dict[str, Any]:
        return {
            "cpu_s": time.process_time() - self.cpu_before_s,
            "wall_s": self.clock(),
            "max_in_flight": self.dispatcher.max_in_flight,
            "lags_s": [round(lag, 6) for lag in self.dispatcher.lags_s],
        }

    def _keep(self, record: Record) -> None:
        try:
            if self.worker is not None:
                self.worker.keep(record)
            elif self.files is not None:
                self.files.keep(record)
        except OSError as error:
            unwritten(self.environment, error)
            return
        self._show(record, self.clock())

    def _show(self, record: Record, now_s: float) -> None:
        """Locust's own statistics: the whole request; TTFT, and hits in percent of the prompt, as
        rows of their own."""
        if record.sent_s is None:
            return
        failure = RuntimeError(record.error) if record.error else None
        rows = [("POST", ((record.last_token_s or now_s) - record.sent_s) * 1000)]
        if record.first_token_s is not None:
            rows.append(("TTFT", (record.first_token_s - record.sent_s) * 1000))
        if record.cached_tokens is not None and record.prompt_tokens:
            rows.append(("cache hit %", 100 * record.cached_tokens / record.prompt_tokens))
        for kind, value in rows:
            self.environment.events.request.fire(
                request_type=kind,
                name=record.tenant,
                response_time=value,
                response_length=record.output_tokens or 0,
                exception=failure if kind == "POST" else None,
                context={},
            )
