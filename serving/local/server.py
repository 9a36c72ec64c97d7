"""Start an engine, wait until it is healthy, stop it without leaving a process behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import requests

from aot.configs.kernel.children import insist
from aot.configs.kernel.errors import LaunchError, UsageError
from aot.configs.kernel.ports import check_port
from aot.serving.client.endpoint import session
from aot.serving.engines.launch_plan import SECRETS_FILE, LaunchPlan
from aot.serving.local import supervisor
from aot.serving.local.environments import engine_environ

POLL_S = 0.25
STOP_TIMEOUT_S = 25.0
LOG_LINES = 15
HEALTH_S = 20.0
"""SGLang's health check generates a token, behind the queue."""


class Program(Protocol):
    """What is started: an engine or a router."""

    @property
    def name(self) -> str: ...

    @property
    def health_timeout_s(self) -> float: ...

    @property
    def failure_line(self) -> re.Pattern[str]:
        """Log lines that say why it died."""
        ...


@dataclass(frozen=True, slots=True)
class Launch:
    """One process to be started, and its log."""

    plan: LaunchPlan
    program: Program
    log: Path


@dataclass(frozen=True, slots=True)
class Server:
    """A running engine. `started_s`: seconds from launch to healthy."""

    plan: LaunchPlan
    log: Path
    started_s: float
    _process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def answers(self) -> bool:
        """Whether it says that it is healthy: its process may be ending for some seconds."""
        return self.alive and _healthy(self.plan.base_url + self.plan.health_path, HEALTH_S)

    def wait(self) -> int:
        """Block until the engine ends by itself; its exit code."""
        return self._process.wait()

    def end(self) -> None:
        """End it and all its children, as when its block is left."""
        _end(self._process)
        insist(self._process, STOP_TIMEOUT_S)


@contextmanager
def running(
    launches: Sequence[Launch], timeout_s: float, report: Callable[[str], None]
) -> Iterator[list[Server]]:
    """All of `launches`, started at once: healthy on entry, and gone, with all their children, on
    exit. Who puts another server in the place of one of the list has it ended, too.

    Raises LaunchError when one dies at start-up or is not healthy within `timeout_s`; the message
    holds the command line, the exit code and the log lines that matter.
    """
    for launch in launches:
        check_port(launch.plan.host, launch.plan.port)
    processes: list[subprocess.Popen[bytes]] = []
    servers: list[Server] = []
    try:
        started = time.monotonic()
        for launch in launches:
            processes.append(_spawn(launch.plan, launch.log))
        for launch, process in zip(launches, processes, strict=True):
            _wait_healthy(process, launch, started + timeout_s, timeout_s, report)
            taken_s = time.monotonic() - started
            servers.append(Server(launch.plan, launch.log, taken_s, process))
        yield servers
    finally:
        processes += [s._process for s in servers if s._process not in processes]
        for process in processes:
            _end(process)
        for process in processes:
            insist(process, STOP_TIMEOUT_S)


def started(launch: Launch, timeout_s: float, report: Callable[[str], None]) -> Server:
    """One more, healthy; who asks for it ends it. Raises LaunchError as `running` does, and leaves
    nothing then."""
    check_port(launch.plan.host, launch.plan.port)
    began = time.monotonic()
    process = _spawn(launch.plan, launch.log)
    try:
        _wait_healthy(process, launch, began + timeout_s, timeout_s, report)
    except BaseException:
        _end(process)
        insist(process, STOP_TIMEOUT_S)
        raise
    return Server(launch.plan, launch.log, time.monotonic() - began, process)


def _spawn(plan: LaunchPlan, log: Path) -> subprocess.Popen[bytes]:
    secrets = plan.secret_values()
    inherited = {k: v for k, v in engine_environ().items() if k not in plan.not_inherited}
    env = {**inherited, **plan.env, **({} if plan.container else secrets)}
    # Scripts of the engine's environment (ninja, ...) are found as if it were activated.
    env["PATH"] = f"{Path(plan.argv[0]).parent}{os.pathsep}{env.get('PATH', '')}"
    # By file and with -E: the environment is the engine's, and its PYTHONPATH must not choose the
    # supervisor's own code.
    command = [sys.executable, "-P", "-E", supervisor.__file__]
    argv, descriptor = list(plan.argv), None
    if plan.container:
        command += ["--container", plan.container]
        if secrets:
            descriptor = _readable(secrets)
            command += ["--descriptor", str(descriptor)]
            argv = [f"/dev/fd/{descriptor}" if word == SECRETS_FILE else word for word in argv]
    command += [str(log), *argv]
    # The log starts with the command, so that it explains itself when read alone.
    try:
        log.write_text(f"$ {plan.as_shell()}\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"log file {log}: cannot be written: {error.strerror}") from None
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=env,
            # Its own session: Ctrl-C in the terminal reaches us, and we decide how to stop it.
            start_new_session=True,
            pass_fds=() if descriptor is None else (descriptor,),
        )
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _readable(secrets: Mapping[str, str]) -> int:
    """A descriptor of a file in memory with a line NAME=VALUE for each, as docker reads it."""
    for name, value in secrets.items():
        if "\n" in value or "\r" in value:
            raise UsageError(f"env: {name} has several lines, which a container cannot be given")
    number = os.memfd_create("secrets")
    os.write(number, "".join(f"{k}={v}\n" for k, v in secrets.items()).encode())
    return number


def _wait_healthy(
    process: subprocess.Popen[bytes],
    launch: Launch,
    until: float,
    timeout_s: float,
    report: Callable[[str], None],
) -> None:
    plan, name = launch.plan, launch.program.name
    while not _healthy(plan.base_url + plan.health_path, launch.program.health_timeout_s):
        left_s = until - time.monotonic()
        code = process.poll()
        if code is not None:
            raise LaunchError(_post_mortem(f"died at start-up with exit code {code}", launch))
        if left_s < 0:
            words = f"was not healthy after {timeout_s:g} s (startup_timeout_s in the server file)"
            raise LaunchError(_post_mortem(words, launch))
        report(f"{name} is starting ({timeout_s - left_s:.0f} s): {_last_line(launch.log)}")
        time.sleep(POLL_S)
    if plan.container is None and not _listens(process.pid, plan.port):
        raise LaunchError(
            f"another process answers on port {plan.port}, not the {name} that was started; "
            "set 'port: 0' in the server file, or start again"
        )


def _listens(pid: int, port: int) -> bool:
    """Whether the process or a descendant listens on `port`; True where that cannot be seen."""
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return any(
            c.status == psutil.CONN_LISTEN and c.laddr.port == port
            for p in family
            for c in p.net_connections(kind="tcp")
        )
    except psutil.Error:
        return True


def page(url: str, timeout_s: float = HEALTH_S) -> str | None:
    """What a process that we started says at `url`; None where it does not answer with a 200."""
    try:
        with session(url) as http:
            answer = http.get(url, timeout=timeout_s)
    except requests.RequestException:
        return None
    return answer.text if answer.status_code == 200 else None


def _healthy(url: str, timeout_s: float) -> bool:
    return page(url, timeout_s) is not None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the supervisor's input, which makes it end what it runs."""
    if process.stdin:
        process.stdin.close()


def _post_mortem(what: str, launch: Launch) -> str:
    lines = _read_log(launch.log)[1:]
    telling = [line for line in lines if launch.program.failure_line.search(line)]
    shown = (telling or lines)[-LOG_LINES:]
    excerpt = "\n".join(f"  {line[:300]}" for line in shown) or "  (the log is empty)"
    command = launch.plan.as_shell()
    return f"{launch.program.name} {what}.\ncommand: {command}\nfrom {launch.log}:\n{excerpt}"


def _last_line(log: Path) -> str:
    lines = [line for line in _read_log(log)[1:] if line.strip()]
    return lines[-1].strip()[:100] if lines else "no output yet"


def _read_log(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
