"""Runs side by side as aligned lines of at most 80 columns, each run under a line of its own."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from aot.scripts.terminal import say

if TYPE_CHECKING:
    from aot.analysis.across import Difference, Row
    from aot.analysis.gate import Judged

UNKNOWN = "–"
WIDTH = 78


def show_runs(rows: Sequence[Row]) -> None:
    """A line for each run and server, and one for each of its arms."""
    from aot.analysis.pages.formats import seconds

    def text(value: float | None, shape: Callable[[float], str]) -> str:
        return UNKNOWN if value is None else shape(value)

    headers = ("arm", "ok", "failed", "TTFT p50", "TTFT p99", "TPOT p50", "req/s", "hit ratio")
    cells = [
        (
            row.arm,
            str(row.ok),
            str(row.failed),
            *(text(x, seconds) for x in (row.ttft_p50_s, row.ttft_p99_s, row.tpot_p50_s)),
            text(row.requests_per_s, lambda x: f"{x:,.2f}"),
            text(row.hit_ratio, lambda x: f"{x:.1%}"),
        )
        for row in rows
    ]
    _show(headers, cells, [_of_run(row) for row in rows], right=headers[1:])
    for run, machine in {row.run: row.machine for row in rows}.items():
        if len({row.machine for row in rows}) > 1:
            say(f"{run} ran on {machine}")


def _of_run(row: Row) -> str:
    facts = (
        row.server,
        row.engine,
        row.model,
        f"schedule {(row.schedule_sha256 or 'unknown')[:8]}",
    )
    return f"{row.run}: {', '.join(facts)}" + (" [void]" if row.void else "")


def show_differences(differences: Sequence[Difference]) -> None:
    """The ratio of each metric, and what may be said of it."""
    from aot.analysis.measures.latency import metric_text

    cells = [
        (
            d.arm,
            f"{metric_text(d.metric)} {d.quantile}",
            f"{d.found.ratio:.2f}",
            "–".join(f"{x:.2f}" for x in d.found.next_ci95) if d.found.next_ci95 else UNKNOWN,
            str(d.found.pairs),
            _said(d),
        )
        for d in differences
    ]
    headers = ("arm", "metric", "ratio", "95 % interval", "pairs", "")
    groups = [f"{d.runs[0]} ÷ {d.runs[1]}:" for d in differences]
    _show(headers, cells, groups, right=("ratio", "95 % interval", "pairs"))


def _said(difference: Difference) -> str:
    if not difference.found.ci95:
        return "too few pairs to tell"
    verdict = difference.verdict
    return "no effect" if verdict.kind == "none" else verdict.words


def show_judged(judged: Sequence[Judged]) -> None:
    """A line for each limit of a gate."""
    cells = [
        (
            j.outcome,
            j.limit.metric,
            *(UNKNOWN if x is None else _in_units(j.limit.metric, x) for x in (j.baseline, j.now)),
            UNKNOWN if j.worse is None else _signed(j.worse),
            " to ".join(map(_signed, j.worse_ci95)) if j.worse_ci95 else UNKNOWN,
            f"{j.limit.share:.1%}",
        )
        for j in judged
    ]
    headers = ("outcome", "metric", "baseline", "now", "worse by", "95 % interval", "allowed")
    styles = ["" if j.outcome == "pass" else "bold red" for j in judged]
    for line, style in zip(_aligned(headers, cells, right=headers[2:]), ["", *styles], strict=True):
        say(line, style)


def _signed(share: float) -> str:
    return f"{round(share, 3) + 0.0:+.1%}"  # + 0.0: never -0.0


def _in_units(metric: str, value: float) -> str:
    if metric.startswith(("ttft", "tpot", "e2e")):
        return f"{value:.4g} s"
    return f"{value:.1%}" if metric == "hit_ratio" else f"{value:,.4g}/s"


def _show(
    headers: Sequence[str],
    cells: Sequence[Sequence[str]],
    groups: Sequence[str],
    right: Iterable[str],
) -> None:
    """Rows under the headers, each run of equal `groups` under a line that says it."""
    head, *lines = _aligned(headers, cells, right)
    say(f"  {head}")
    for group, members in groupby(zip(groups, lines, strict=True), key=lambda pair: pair[0]):
        say(group)
        for _, line in members:
            say(f"  {line}")


def _aligned(
    headers: Sequence[str], cells: Sequence[Sequence[str]], right: Iterable[str]
) -> list[str]:
    """Lines whose columns are as wide as their widest cell; words that would go beyond WIDTH go on
    in a line below, in the last column."""
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    sides = [">" if header in right else "<" for header in headers]
    before = sum(widths[:-1]) + 2 * len(widths[:-1])
    return [
        textwrap.fill(
            "  ".join(f"{c:{s}{w}}" for c, s, w in zip(row, sides, widths, strict=True)).rstrip(),
            WIDTH,
            subsequent_indent=" " * (before + 2),
            drop_whitespace=False,
        )
        for row in (headers, *cells)
    ]
