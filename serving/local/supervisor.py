"""Runs one command and makes sure that nothing of it is left behind, whatever ends us.

usage: python supervisor.py LOG_FILE COMMAND [ARG ...]

The parent holds the other end of our standard input. When that closes — the parent finished,
crashed or was killed with SIGKILL — or on SIGTERM, the command and all of its descendants are
ended: SIGTERM first, SIGKILL after a grace period. We are a child subreaper (prctl(2)), so that
descendants which left the process group are still ours to find. Exit status: the command's.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from aot.configs.kernel.children import adopt_orphans, start

GRACE_S = 10.0
POLL_S = 0.1


def main(log_file: str, command: list[str]) -> int:
    adopt_orphans()
    stop_reader, stop_writer = os.pipe()
    os.set_blocking(stop_writer, False)
    signal.set_wakeup_fd(stop_writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with Path(log_file).open("ab") as log:
        try:
            # Should even we be killed with SIGKILL, the kernel takes the command with us.
            child = start(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        except OSError as error:
            log.write(f"cannot start {command[0]}: {error}\n".encode())
            return 127
    _wait(child, stop_reader)
    _end_all(child)
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


def _end_all(child: subprocess.Popen[bytes]) -> None:
    """End every descendant: ask, wait, kill."""
    me = psutil.Process()
    deadline = time.monotonic() + GRACE_S
    if child.poll() is None:
        with suppress(ProcessLookupError):  # it may end in this very moment
            os.killpg(child.pid, signal.SIGTERM)
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
    # What outlives the main process is an orphan of ours by now.
    leftovers = me.children(recursive=True)
    for process in leftovers:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(leftovers, timeout=max(1.0, deadline - time.monotonic()))
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=GRACE_S)
    child.wait()


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
