"""What the `aot` fixture gives: the command line, and a check of how it ended."""

from __future__ import annotations

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


def check(done: Done, code: int, *words: str) -> str:
    """The exit code is `code`, all `words` are in the error, and nothing is a traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    text = " ".join(done.stderr.split())
    for word in words:
        assert word in text, text
    return text
