"""What the `aot` fixture gives: the command line, and a check of how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


Aot = Callable[..., Done]


def started(*arguments: object, cwd: Path, **env: str) -> subprocess.Popen[str]:
    """The command line in a process of its own, which Ctrl-C reaches even where the tests run in
    the background."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "aot.scripts.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def check(done: Done, code: int, *words: str) -> str:
    """The exit code is `code`, all `words` are in the error, and nothing is a traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    text = " ".join(done.stderr.split())
    for word in words:
        assert word in text, text
    return text
