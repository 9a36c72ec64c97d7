"""Drive Locust headless as a subprocess: its monkey-patching must not reach pandas or Popen here.

Records are on disk line by line, so a crash or Ctrl-C keeps what was answered.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aot.configs.dialects.wording import USUAL, Wording
from aot.configs.kernel import network
from aot.configs.kernel.children import end, start
from aot.configs.kernel.errors import ToolkitError
from aot.configs.kernel.ports import free_port
from aot.configs.kernel.salts import Salts
from aot.workloads.load.progress import Progress, Watcher

LOCUSTFILE = Path(__file__).parent / "locustfile.py"
POLL_S = 0.2
STOP_S = 10.0
WORDING_VARIABLE = "AOT_WORDING"
"""Hands the wording of requests to the load generator."""
CANNOT_WRITE = 74
"""Exit code, as sysexits.h has it for errors of input and output: what the replay itself says of a
full disk may not fit on it."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Who else takes part: `processes` here, or `workers` that come to `listen` from elsewhere."""

    processes: int = 1
    workers: int = 0
    listen: tuple[str, int] = ("0.0.0.0", 5557)


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay: which schedule, against what, into which folder."""

    schedule: Path
    base_url: str
    model: str
    users: int
    folder: Path
    arm: str = "auto"
    repeat: int = 1
    api_key_env: str | None = None
    salts: Salts | None = None
    fleet: Fleet = Fleet()
    key_header: str | None = None
    """In which a router looks for the key of a request's static prefix."""
    tenant_salts: bool = False
    """Whether every static prefix has a cache salt of its own."""
    wording: Wording = USUAL
    template: str | None = None
    """Model folder with the chat template, where prompts are sent as texts."""

    @property
    def records(self) -> Path:
        return self.folder / "records"

    @property
    def log(self) -> Path:
        return self.folder / "load.log"


def run(replay: Replay, progress: Callable[[Progress], None]) -> None:
    """Replay to the end; `progress` is told how far it is.

    Raises ToolkitError when Locust itself fails (a failed request is a record, not a failure).
    """
    replay.folder.mkdir(parents=True, exist_ok=True)
    watcher = Watcher(replay.records)
    code = _locust(_command(replay), replay, lambda: progress(watcher.look()))
    progress(watcher.look())
    if code == CANNOT_WRITE:
        done = watcher.look().finished
        raise ToolkitError(
            f"{replay.records}: records could not be written any more (is the disk full?), so the "
            f"replay was stopped; the {done} that were written are kept. Free some space, and "
            "measure again"
        )
    if code != 0:
        raise ToolkitError(
            f"the load generator failed with exit code {code}; the end of {replay.log}:\n"
            + _tail(replay.log)
        )


def work(replay: Replay, master: tuple[str, int]) -> None:
    """Be a worker of the replay whose master listens at `master`; its records go there.

    Raises ToolkitError when Locust itself fails.
    """
    replay.folder.mkdir(parents=True, exist_ok=True)
    command = [*_command(replay), "--worker"]
    command += ["--master-host", master[0], "--master-port", str(master[1])]
    code = _locust(command, replay, lambda: None)
    if code != 0:
        raise ToolkitError(f"the worker failed with exit code {code}:\n{_tail(replay.log)}")


def _locust(command: list[str], replay: Replay, look: Callable[[], None]) -> int:
    # By the environment, which is seen by nobody else: headers may be secret.
    env = {**os.environ, "AOT_DIE_WITH": str(os.getpid())}
    env[WORDING_VARIABLE] = replay.wording.to_json()
    if login := network.login(replay.base_url):
        env[network.LOGIN_VARIABLE] = login
    with replay.log.open("w", encoding="utf-8") as log:
        process = start(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            # Locust imports from its working directory, and reads locust.conf there.
            cwd=replay.folder,
        )
        try:
            while process.poll() is None:
                look()
                time.sleep(POLL_S)
        finally:
            end(process, STOP_S)
    return process.returncode


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8").splitlines()[-8:])


def _command(replay: Replay) -> list[str]:
    command = [sys.executable, "-P", "-m", "locust", "-f", str(LOCUSTFILE), "--headless"]
    fleet = replay.fleet
    users = max(replay.users, fleet.processes, fleet.workers)
    command += ["-u", str(users), "-r", str(users), "--host", replay.base_url]
    if fleet.processes > 1:
        port = str(free_port("127.0.0.1"))
        command += ["--processes", str(fleet.processes), "--expect-workers", str(fleet.processes)]
        command += ["--master-bind-host", "127.0.0.1", "--master-bind-port", port]
        command += ["--master-port", port]
    elif fleet.workers:
        host, number = fleet.listen
        command += ["--master", "--expect-workers", str(fleet.workers)]
        command += ["--master-bind-host", host, "--master-bind-port", str(number)]
    command += ["--schedule", str(replay.schedule.absolute()), "--model", replay.model]
    command += ["--records", str(replay.records.absolute()), "--arm", replay.arm]
    command += ["--repeat", str(replay.repeat), "--loglevel", "WARNING", "--only-summary"]
    command += ["--exit-code-on-error", "0"]
    if replay.salts:
        command += ["--salt-nonce", replay.salts.nonce, "--salt-per", replay.salts.kind]
    if replay.tenant_salts:
        command += ["--tenant-salts"]
    if replay.key_header:
        command += ["--key-header", replay.key_header]
    if replay.template:
        command += ["--template", replay.template]
    if replay.api_key_env:
        command += ["--api-key-env", replay.api_key_env]
    return command
