"""Replays a schedule on Locust: open-loop or closed-loop, one record per request.

Used by `aot load` (headless), and directly for Locust's web UI, CSV and HTML:

    locust -f workloads/locustfile.py --host http://127.0.0.1:8000 \\
        --schedule schedule.jsonl --model NAME --records records/

The load side is dumb: every decision is in the schedule, bodies are built before the clock starts,
and what happened is written down without being judged.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import gevent
from locust import User, constant, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from configs.errors import ToolkitError, UsageError
from configs.salts import Salts
from workloads import schedule as schedule_file
from workloads.bodies import Bodies
from workloads.dispatch import Dispatcher
from workloads.record import Record, RecordHeader
from workloads.request import Request, Schedule
from workloads.wire import Wire

LEAD_S = 0.2
"""Head start before the first planned time, so that spawning users does not make it late."""
PR_SET_PDEATHSIG = 1


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: Any) -> None:
    """Locust's own argument parser with ours added; each also as an environment variable."""
    group = parser.add_argument_group("aot", "Replay of an aot schedule")
    group.add_argument("--schedule", env_var="AOT_SCHEDULE", help="schedule file (aot schedule)")
    group.add_argument("--model", env_var="AOT_MODEL", help="model name in the API")
    group.add_argument("--records", env_var="AOT_RECORDS", help="folder for the record files")
    group.add_argument("--arm", env_var="AOT_ARM", default="auto", help="label in the records")
    group.add_argument("--repeat", env_var="AOT_REPEAT", type=int, default=1)
    group.add_argument("--salt-nonce", env_var="AOT_SALT_NONCE", help="send cache salts from it")
    group.add_argument(
        "--salt-per",
        env_var="AOT_SALT_PER",
        choices=["phase", "request"],
        default="phase",
        help="what shares a cache salt",
    )
    group.add_argument(
        "--api-key-env", env_var="AOT_API_KEY_ENV", help="variable that holds the API key"
    )


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Any, **_: Any) -> None:
    """Read the schedule and build every body now, before any clock starts."""
    options = environment.parsed_options
    needed = ("host", "schedule", "model", "records")
    missing = [f"--{n}" for n in needed if not getattr(options, n)]
    if missing:
        raise SystemExit(f"aot: {', '.join(missing)} required; see locust -f {__file__} --help")
    if isinstance(environment.runner, MasterRunner | WorkerRunner):
        # Each worker would replay the whole schedule: every request sent several times over.
        raise SystemExit(
            "aot: a schedule is replayed by one process; leave --processes, --master "
            "and --worker out"
        )
    if os.environ.get("AOT_DIE_WITH_PARENT"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    try:
        environment.replay = Replay(environment)
    except ToolkitError as error:
        raise SystemExit(f"aot: {error}") from None


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def start(environment: Any, **_: Any) -> None:
    environment.replay.start()


@events.test_stop.add_listener  # type: ignore[untyped-decorator]
def stop(environment: Any, **_: Any) -> None:
    environment.replay.close()


@events.quitting.add_listener  # type: ignore[untyped-decorator]
def quitting(environment: Any, **_: Any) -> None:
    # A failed request is data, not a failed replay.
    environment.process_exit_code = 0


class Replay:
    """One replay of the schedule in this process."""

    def __init__(self, environment: Any) -> None:
        options = environment.parsed_options
        self.environment = environment
        self.options = options
        self.schedule: Schedule = schedule_file.read(Path(options.schedule))
        salts = Salts(options.salt_nonce, options.salt_per) if options.salt_nonce else None
        self.bodies = Bodies(self.schedule, options.model, salts)
        self.headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if options.api_key_env and options.api_key_env not in os.environ:
            raise UsageError(f"--api-key-env: variable {options.api_key_env} is not set")
        if options.api_key_env:
            self.headers["Authorization"] = f"Bearer {os.environ[options.api_key_env]}"
        self.out: TextIO | None = None

    def start(self) -> None:
        self.folder = _new_folder(Path(self.options.records))
        self.worker = 0
        self.out = (self.folder / f"requests-{self.worker}.jsonl").open("w", encoding="utf-8")
        self.cpu_before_s = time.process_time()
        lead_s = LEAD_S if self.schedule.mode == "open" else 0.0
        self.zero = time.perf_counter() + lead_s
        host = self.environment.host.rstrip("/")
        wire = Wire(host, self.schedule.timeout_s, self.clock, self.headers)
        self.dispatcher = Dispatcher(
            self.schedule, wire, self.bodies, self.options.arm, self.options.repeat, self._keep
        )
        header = RecordHeader(
            arm=self.options.arm,
            repeat=self.options.repeat,
            worker=self.worker,
            clock_zero_utc=datetime.fromtimestamp(time.time() + lead_s, UTC).isoformat(),
            clock_zero_monotonic_s=self.zero,
            schedule_sha256=schedule_file.digest(Path(self.options.schedule)),
        )
        self.out.write(header.to_line())
        self.out.flush()
        gevent.spawn(self.dispatcher.watch_lag)

    def clock(self) -> float:
        """Seconds since the start of the replay."""
        return time.perf_counter() - self.zero

    def next(self) -> Request | None:
        """Claim the next session; whoever claims it sends it."""
        roots = self.dispatcher.roots
        return roots.popleft() if roots else None

    def finish(self) -> None:
        """Wait for the answers still under way, then end the test."""
        while self.dispatcher.left:
            gevent.sleep(0.02)
        runner = self.environment.runner
        # With the web UI the process stays, so that its figures can be looked at.
        gevent.spawn(runner.stop if self.environment.web_ui else runner.quit)

    def close(self) -> None:
        if self.out is None or self.out.closed:
            return
        self.out.close()
        load = {
            "cpu_s": time.process_time() - self.cpu_before_s,
            "wall_s": self.clock(),
            "max_in_flight": self.dispatcher.max_in_flight,
            "lags_s": [round(lag, 6) for lag in self.dispatcher.lags_s],
        }
        (self.folder / f"load-{self.worker}.json").write_text(json.dumps(load), encoding="utf-8")

    def _keep(self, record: Record) -> None:
        # Flushed at once: a crash loses nothing that was answered.
        if self.out is not None and not self.out.closed:
            self.out.write(record.to_line())
            self.out.flush()
        self._show(record, self.clock())

    def _show(self, record: Record, now_s: float) -> None:
        """Locust's own statistics: the whole request, and TTFT as a row of its own."""
        failure = RuntimeError(record.error) if record.error else None
        rows = [("POST", record.last_token_s or now_s), ("TTFT", record.first_token_s)]
        for kind, end_s in rows:
            if end_s is None:
                continue
            self.environment.events.request.fire(
                request_type=kind,
                name=record.tenant,
                response_time=(end_s - record.sent_s) * 1000,
                response_length=record.output_tokens or 0,
                exception=failure if kind == "POST" else None,
                context={},
            )


def _new_folder(folder: Path) -> Path:
    """`folder`, made; beside it one with a number when it holds an earlier replay's records (the
    web UI can start a test twice), which are never overwritten."""
    taken = 1
    chosen = folder
    while chosen.exists() and any(chosen.iterdir()):
        taken += 1
        chosen = folder.with_name(f"{folder.name}-{taken}")
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


class ReplayUser(User):
    """Takes the next session. In a closed loop each user waits for its answers; in an open loop one
    user or many pace the same queue and never wait."""

    wait_time = constant(0)

    @task
    def replay_next(self) -> None:
        replay: Replay = self.environment.replay
        root = replay.next()
        if root is None:
            replay.finish()
            raise StopUser
        if replay.schedule.mode == "open":
            replay.dispatcher.pace(root)
        else:
            replay.dispatcher.run_session(root, None)
            gevent.sleep(replay.schedule.think_s)
