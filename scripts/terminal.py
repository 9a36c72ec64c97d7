"""What the person at the keyboard sees while something takes time.

Progress goes to standard error, so that results can be piped. Where there is no terminal, a plain
line every few seconds takes the place of the moving one.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from workloads.progress import Progress as ReplayProgress

err = Console(stderr=True, highlight=False)
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
PLAIN_EVERY_S = 10.0


def note(text: str) -> None:
    """A line that stays."""
    err.print(text, markup=False, soft_wrap=True)


def say(text: str, style: str = "") -> None:
    """A line of the result, on standard output, exactly as it is."""
    out.print(text, style=style, markup=False)


@contextmanager
def status(title: str) -> Iterator[Status]:
    """A line that changes while the block runs."""
    line = Status(title)
    if not err.is_terminal:
        note(title)
        yield line
        return
    with err.status(title) as live:
        line.show = lambda text: live.update(escape(text))
        yield line


class Status:
    """Call it with the latest news."""

    def __init__(self, title: str) -> None:
        self.show: Callable[[str], None] = self._plain
        self._last_s = time.monotonic()
        self._title = title

    def __call__(self, text: str) -> None:
        self.show(text)

    def _plain(self, text: str) -> None:
        if time.monotonic() - self._last_s >= PLAIN_EVERY_S:
            self._last_s = time.monotonic()
            note(f"  {text}")


@contextmanager
def bar(title: str, total: int) -> Iterator[Bar]:
    """How a replay of `total` requests is doing."""
    if not err.is_terminal:
        note(f"{title}: 0 of {total}")
        yield Bar(title, total, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    facts = TextColumn("[dim]{task.fields[facts]}")
    with Progress(*columns, TimeElapsedColumn(), facts, console=err) as progress:
        yield Bar(title, total, progress)


class Bar:
    """Call it with the latest of a replay: a line that moves, or one every few seconds."""

    def __init__(self, title: str, total: int, progress: Progress | None) -> None:
        self._title, self._total, self._progress = title, total, progress
        self._task = progress.add_task(title, total=total, facts="") if progress else None
        self._last_s = self._began_s = time.monotonic()

    def __call__(self, now: ReplayProgress) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=now.finished, facts=self._facts(now))
        elif time.monotonic() - self._last_s >= PLAIN_EVERY_S:
            self._last_s = time.monotonic()
            facts = self._facts(now)
            note(f"  {self._title}: {now.finished} of {self._total}{', ' if facts else ''}{facts}")

    def _facts(self, now: ReplayProgress) -> str:
        found = []
        if now.in_flight is not None:
            found.append(f"{now.in_flight} in flight")
        if now.rate_per_s is not None:
            found.append(f"{now.rate_per_s:.2f}/s")
        if now.ttft_p50_s is not None and now.ttft_p99_s is not None:
            found.append(f"TTFT p50 {now.ttft_p50_s:.3f} s, p99 {now.ttft_p99_s:.3f} s")
        if now.hit_ratio is not None:
            found.append(f"hit ratio {now.hit_ratio:.1%}")
        if now.failed:
            found.append(f"{now.failed} failed")
        if 0 < now.finished < self._total:
            took_s = time.monotonic() - self._began_s
            found.append(f"about {took_s / now.finished * (self._total - now.finished):.0f} s left")
        return ", ".join(found)
