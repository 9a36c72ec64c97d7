"""How a replay is doing, shown to people and to pipes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel as Frame
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from aot.scripts.terminal import PLAIN_EVERY_S, err, note
from aot.workloads.load.progress import Progress as ReplayProgress


@contextmanager
def bar(title: str, total: int) -> Iterator[Bar]:
    """How a replay of `total` requests is doing: a panel, or a line every few seconds."""
    if not err().is_terminal:
        note(f"{title}: 0 of {total}")
        yield Bar(title, total, note)
        return
    with Live(console=err(), refresh_per_second=4) as live:
        panel = Panel(title, total, live)
        panel.show({})
        yield Bar(title, total, panel=panel)


class Panel:
    """A bar of what is done, and under it one column for each thing that is known."""

    def __init__(self, title: str, total: int, live: Live) -> None:
        columns = (BarColumn(None), MofNCompleteColumn(), TimeElapsedColumn())
        self._title, self._live, self._done = title, live, Progress(*columns, console=err())
        self._task = self._done.add_task(title, total=total)

    def show(self, facts: dict[str, str], finished: int = 0) -> None:
        self._done.update(self._task, completed=finished)
        table = Table(*facts, box=None, header_style="dim")
        if facts:
            table.add_row(*facts.values())
        self._live.update(Frame(Group(self._done, table), title=escape(self._title), width=100))


class Bar:
    """Call it with the latest of a replay."""

    def __init__(
        self,
        title: str,
        total: int,
        line: Callable[[str], None] | None = None,
        panel: Panel | None = None,
    ) -> None:
        self._title, self._total, self._line, self._panel = title, total, line, panel
        self._last_s = self._began_s = time.monotonic()

    def __call__(self, now: ReplayProgress) -> None:
        if self._panel is not None:
            self._panel.show(self._facts(now), now.finished)
        elif self._line is not None and time.monotonic() - self._last_s >= PLAIN_EVERY_S:
            self._last_s = time.monotonic()
            facts = [f", {name} {value}" for name, value in self._facts(now).items()]
            self._line(f"  {self._title}: {now.finished} of {self._total}{''.join(facts)}")

    def _facts(self, now: ReplayProgress) -> dict[str, str]:
        """What is known so far, by what it is called."""
        facts = {}
        if now.in_flight is not None:
            facts["in flight"] = f"{now.in_flight}"
        if now.rate_per_s is not None:
            facts["answers"] = f"{now.rate_per_s:.2f}/s"
        if now.ttft_p50_s is not None and now.ttft_p99_s is not None:
            facts["TTFT p50"], facts["p99"] = f"{now.ttft_p50_s:.3f} s", f"{now.ttft_p99_s:.3f} s"
        if now.hit_ratio is not None:
            facts["hit ratio"] = f"{now.hit_ratio:.1%}"
        if now.failed:
            facts["failed"] = f"{now.failed}"
        if 0 < now.finished < self._total:
            took_s = time.monotonic() - self._began_s
            facts["left"] = f"{took_s / now.finished * (self._total - now.finished):.0f} s"
        return facts
