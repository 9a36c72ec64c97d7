"""Replays a schedule on Locust: open-loop or closed-loop, one record per request.

Used by `aot load` (headless), and directly for Locust's web UI, CSV and HTML:

    locust -f workloads/load/locustfile.py --host http://127.0.0.1:8000 \\
        --schedule schedule.jsonl --model NAME --records records/

The load side is dumb: every decision is in the schedule, bodies are built before the clock starts,
and what happened is written down without being judged.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import gevent
import psutil
from locust import User, constant, events, task
from locust.exception import StopUser
from locust.runners import MasterRunner, WorkerRunner

from aot.configs.kernel.children import die_with_parent
from aot.configs.kernel.errors import ToolkitError
from aot.workloads.load.replayer import Head, Replay


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
        "--tenant-salts",
        action="store_true",
        env_var="AOT_TENANT_SALTS",
        help="send a cache salt of its own with every static prefix",
    )
    group.add_argument(
        "--key-header",
        env_var="AOT_KEY_HEADER",
        help="header in which a router looks for the key of a request's static prefix",
    )
    group.add_argument(
        "--template",
        env_var="AOT_TEMPLATE",
        help="model folder whose chat template makes the text of a prompt, where texts are sent",
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
    if starter := os.environ.get("AOT_DIE_WITH"):
        die_with_parent(signal.SIGTERM)  # workers, too, which Locust forks
        if not psutil.pid_exists(int(starter)):
            raise SystemExit("aot: what started this replay is gone")
    try:
        environment.replay = (
            Head(environment)
            if isinstance(environment.runner, MasterRunner)
            else Replay(environment, worker=isinstance(environment.runner, WorkerRunner))
        )
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
    environment.process_exit_code = getattr(environment, "aot_failed", 0)


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
