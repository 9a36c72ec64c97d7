"""Child processes that do not outlive this one, and how they are ended (Linux: prctl(2))."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aot.configs.kernel.cgroups import Cgroup

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
STOP_S = 10.0


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends, however that ends. Called in
    a new child; a child of it is not bound by it."""
    LIBC.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, so that they are still found."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(
    command: Sequence[str], cgroup: Cgroup | None = None, **options: Any
) -> subprocess.Popen[Any]:
    """Start a child that is killed when this process is gone, in a session of its own: Ctrl-C in
    the terminal reaches this process, which decides. Raises OSError as Popen does."""
    me = os.getpid()

    def bind() -> None:
        die_with_parent()
        if os.getppid() != me:  # we were gone before the kernel was asked
            os._exit(1)
        if cgroup:
            with suppress(OSError):
                cgroup.enter()

    return subprocess.Popen(command, start_new_session=True, preexec_fn=bind, **options)


def follow(command: Sequence[str], tell: Callable[[str], None], **options: Any) -> int:
    """Run a child to its end and `tell` every line that it writes; its exit code. It ends with us,
    whatever ends us, so that nothing goes on writing where another process may begin."""
    with start(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    ) as process:
        try:
            for line in process.stdout or ():
                tell(line)
        except BaseException:
            end(process, STOP_S)
            raise
    return int(process.returncode)


def end(process: subprocess.Popen[Any], patience_s: float) -> None:
    """Ask a child that has a session of its own to end, and kill its group if it does not."""
    with suppress(ProcessLookupError):
        process.terminate()
    insist(process, patience_s)


def insist(process: subprocess.Popen[Any], patience_s: float) -> None:
    """Wait for the end of such a child, and kill its group if that does not come."""
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
