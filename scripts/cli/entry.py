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
    del frame
    _stopped = True
    # Only once: what follows is the clean-up, which a second Ctrl-C must not cut short.
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _again(dropped: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised while it destroys an object, collects garbage or calls back from
    an import, with a traceback: an end that was dropped there comes again."""
    end = dropped.exc_value
    if not (_stopped and isinstance(end, SystemExit)):
        sys.__unraisablehook__(dropped)
        return

    def end_again(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise SystemExit(end.code)

    signal.signal(signal.SIGALRM, end_again)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)


def main() -> None:
    """Signals end the command through its clean-up; heavy imports come after they are heard."""
    for signum in STOPPING:
        if signal.getsignal(signum) != signal.SIG_IGN:  # nohup asked for it to be ignored
            signal.signal(signum, _stop)
    sys.unraisablehook = _again
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
