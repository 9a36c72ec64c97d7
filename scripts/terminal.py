"""What the person at the keyboard sees: results on standard output, news on standard error.

Rich is imported when something is first shown, since help and completion show nothing of ours.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_EVERY_S = 10.0
PIPE_WIDTH = 1000
"""Lines that are piped are not folded."""


@cache
def err() -> Console:
    """Standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@cache
def out() -> Console:
    """Standard output."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, soft_wrap=True, width=width)


def note(text: str) -> None:
    """A line that stays."""
    err().print(text, markup=False, soft_wrap=True)


def say(text: str, style: str = "") -> None:
    """A line of the result, exactly as it is."""
    out().print(text, style=style, markup=False)


def say_json(value: object) -> None:
    """A result for programs: one JSON value."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    title: str | None = None,
) -> None:
    """Aligned columns; those of `headers` that are named in `right` end at the same place."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, title=title, title_justify="left", pad_edge=False)
    for header in headers:
        shown.add_column(header, justify="right" if header in right else "left")
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    out().print(shown)


@contextmanager
def status(title: str) -> Iterator[Status]:
    """A line that changes while the block runs."""
    line = Status(title)
    if not err().is_terminal:
        note(title)
        with line.beating():
            yield line
        return
    from rich.markup import escape

    with err().status(title) as live:
        line.show = lambda text: live.update(escape(text))
        yield line


class Status:
    """Call it with the latest news. Where there is no terminal, a plain line every few seconds
    takes the place of the moving one."""

    def __init__(self, title: str) -> None:
        self.show: Callable[[str], None] = self._plain
        self._began_s = self._last_s = time.monotonic()
        self._latest = title

    def __call__(self, text: str) -> None:
        self.show(text)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Say the latest again every few seconds, so that a silence is seen to be waited for."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(PLAIN_EVERY_S / 4):
                waited_s = time.monotonic() - self._began_s
                self._plain(f"{self._latest} ({waited_s:.0f} s)", keep=False)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _plain(self, text: str, *, keep: bool = True) -> None:
        if keep:
            self._latest = text
        if time.monotonic() - self._last_s >= PLAIN_EVERY_S:
            self._last_s = time.monotonic()
            note(f"  {text}")
