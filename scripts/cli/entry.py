"""The process that a command is: signals from its first moment on, streams, exit codes."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

FAULT = 70
"""Exit code of a fault of ours (sysexits.h): a traceback is no verdict and no failed run."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 0.01
_stopped = False


def _stop(number: int, frame: FrameType | None) -> None:
    global _stopped
    if frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        # Python drops, with a traceback, what is raised in some callbacks of its own imports.
        signal.signal(signal.SIGALRM, lambda _, later: _stop(number, later))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
        return
    _stopped = True
    # Only once: what follows is the clean-up, which a second Ctrl-C must not cut short.
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> None:
    """Signals end the command through its clean-up; heavy imports come after they are heard."""
    for signum in STOPPING:
        if signal.getsignal(signum) != signal.SIG_IGN:  # nohup asked for it to be ignored
            signal.signal(signum, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that knows few letters shows others as such
            stream.reconfigure(errors="backslashreplace")
    try:
        from aot.scripts.cli.main import call

        code = call(sys.argv[1:])
    except Exception:
        import traceback

        traceback.print_exc()
        code = FAULT
    if _stopped:
        # All is cleaned up; a thread that still waits for an answer must not hold the end.
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
