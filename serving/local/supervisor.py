"""Runs one command and makes sure that nothing of it is left behind, whatever ends us.

usage: python supervisor.py [--container NAME] [--descriptor N] LOG_FILE COMMAND [ARG ...]

The parent holds the other end of our standard input. When that closes — the parent finished,
crashed or was killed with SIGKILL — or on SIGTERM, the command and all of its descendants are
ended: SIGTERM first, SIGKILL after a grace period, again until none is left. We are two processes,
each of which ends everything should the other be killed: the outer one (the guard) and the inner
one are child subreapers (prctl(2)), so that descendants which left the process group are still
ours to find. Where a cgroup can be had, the command is in one of its own. A container, which is
no descendant of ours, is ended by its name. Exit status: the command's.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from aot.configs.kernel import cgroups
from aot.configs.kernel.cgroups import Cgroup
from aot.configs.kernel.children import adopt_orphans, die_with_parent, start

GRACE_S = 10.0
POLL_S = 0.1
CONTAINER_S = 8
"""Less than our own patience: Docker itself kills what does not end."""
DOCKER_S = 30.0
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--container")
    parser.add_argument("--descriptor", type=int, action="append", default=[])
    parser.add_argument("log", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args(arguments)
    cgroup = cgroups.own(f"aot-{os.getpid()}")

    def run() -> int:
        return _supervise(asked.command, asked.log, asked.descriptor, asked.container, cgroup)

    code = _guard(run)
    for number in asked.descriptor:
        os.close(number)
    if cgroup:
        cgroup.kill()
    _end_descendants(time.monotonic())  # what an inner one that was killed has left
    if asked.container:
        _docker("rm", "-f", asked.container)
    return code


def _guard(run: Callable[[], int]) -> int:
    """`run` in a child, whose exit code is ours; all that it leaves is a child of ours then."""
    adopt_orphans()
    me = os.getpid()
    child = os.fork()
    if child == 0:
        die_with_parent(signal.SIGTERM)
        code = 1
        try:
            code = 0 if os.getppid() != me else run()
        finally:
            os._exit(code)
    for number in STOPPING:
        signal.signal(number, lambda n, _: os.kill(child, n))
    status = os.waitpid(child, 0)[1]
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # it is ending already
    return os.waitstatus_to_exitcode(status) % 256


def _supervise(
    command: list[str],
    log_file: Path,
    descriptors: list[int],
    container: str | None,
    cgroup: Cgroup | None,
) -> int:
    adopt_orphans()
    stop_reader, stop_writer = os.pipe()
    os.set_blocking(stop_writer, False)
    signal.set_wakeup_fd(stop_writer)
    for number in STOPPING:
        signal.signal(number, lambda *_: None)
    with log_file.open("ab") as log:
        try:
            # Should even we be killed with SIGKILL, the kernel takes the command with us.
            child = start(
                command,
                cgroup,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
            )
        except OSError as error:
            log.write(f"cannot start {command[0]}: {error}\n".encode())
            return 127
    _wait(child, stop_reader)
    _end_all(child, container)
    code = child.returncode
    return code if code >= 0 else 128 - code


def _wait(child: subprocess.Popen[bytes], stop_reader: int) -> None:
    """Until the command ends, the parent is gone, or a signal asks us to stop."""
    watched = [stop_reader, sys.stdin.fileno()]
    while child.poll() is None:
        readable, _, _ = select.select(watched, [], [], POLL_S)
        for source in readable:
            data = os.read(source, 1024)
            if source == stop_reader or not data:
                return


def _end_all(child: subprocess.Popen[bytes], container: str | None) -> None:
    """End the command, then every descendant: ask, wait, kill."""
    deadline = time.monotonic() + GRACE_S
    if child.poll() is None and container:
        # A signal that the client passes on has no time limit; this one has.
        _docker("stop", "-t", str(CONTAINER_S), container)
    if child.poll() is None:
        with suppress(ProcessLookupError):  # it may end in this very moment
            os.killpg(child.pid, signal.SIGTERM)
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
    _end_descendants(max(deadline, time.monotonic() + 1.0))
    child.wait()


def _end_descendants(deadline: float) -> None:
    """Until none is left: those that are new are asked to end, and after `deadline` killed, again
    and again, since an asked one may start another."""
    me, asked = psutil.Process(), set[psutil.Process]()
    while family := _alive(me):
        kill = time.monotonic() >= deadline
        for process in family:
            if kill or process not in asked:
                _signal(process, signal.SIGKILL if kill else signal.SIGTERM)
        asked.update(family)
        psutil.wait_procs(family, timeout=POLL_S)
        if time.monotonic() > deadline + GRACE_S:
            return  # in the kernel's hands: a process that waits for a device


def _alive(me: psutil.Process) -> list[psutil.Process]:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    with suppress(psutil.NoSuchProcess):
        return [p for p in me.children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]
    return _alive(me)


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(number)


def _docker(*arguments: str) -> None:
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(["docker", *arguments], capture_output=True, timeout=DOCKER_S, check=False)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
