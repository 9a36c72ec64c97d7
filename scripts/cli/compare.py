"""The verbs that look at several runs: side by side, against a baseline, over time."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.scripts.terminal import note, out, say, status

if TYPE_CHECKING:
    from aot.analysis.across import Difference, Row
    from aot.analysis.gate import Judged

NOT_SETTLED = 3
JsonOption = Annotated[bool, typer.Option("--json", help="one JSON value on standard output")]


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="run directories; the first is compared. Also result files of vllm bench serve, "
            "sglang.bench_serving and guidellm, beside them and without ratios"
        ),
    ],
    different_schedules: Annotated[
        bool,
        typer.Option(
            "--different-schedules", help="show runs of other traffic too, without ratios"
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Runs side by side, and the first against each other one over the same requests."""
    from aot.analysis import across, imported

    if len(runs) < 2:
        raise UsageError("give at least two run directories")
    with status("reading the runs"):
        made = across.read([p for p in runs if not p.is_file()])
        others = [row for p in runs if p.is_file() for row in imported.read(p)]
    if len(made) > 1 and not different_schedules:
        across.insist_on_one_schedule(
            made, "--different-schedules shows them side by side without ratios"
        )
    rows = [row for m in made for row in across.rows(m)] + others
    found = []
    if not different_schedules:
        found = [d for other in made[1:] for d in across.differences(made[0], other)]
    if as_json:
        ratios = [asdict(d) | {"ratio": d.found.ratio} for d in found]
        print_json({"runs": [asdict(r) for r in rows], "differences": ratios})
        return
    _show_rows(rows)
    _show_differences(found)


def gate(
    run: Annotated[Path, typer.Argument(help="run directory")],
    against: Annotated[Path, typer.Option(help="run directory of the baseline")],
    max_regression: Annotated[
        list[str],
        typer.Option(
            help="METRIC=PERCENT%, can be given again: ttft_p50, ttft_p90, ttft_p99, tpot_..., "
            "e2e_..., requests_per_s, output_tokens_per_s, hit_ratio"
        ),
    ],
    arm: Annotated[str, typer.Option(help="jit, auto or aot")] = "aot",
    as_json: JsonOption = False,
) -> None:
    """Has a run become worse than its baseline? Exit code 0: no, 1: yes, 3: not settled.

    Latencies are compared over the same requests. A regression is worse than allowed with its whole
    95 % interval above the baseline; worse than allowed without that is not settled: measure more
    repeats.
    """
    from aot.analysis import across
    from aot.analysis import gate as gates

    limits = [gates.limit(text) for text in max_regression]
    with status("reading the runs"):
        now, then = across.read([run, against])
    judged = gates.judge(now, then, limits, arm)
    _note_conditions(*(across.rows(m)[0] for m in (then, now)))
    if as_json:
        print_json([asdict(j) for j in judged])
    else:
        for j in judged:
            say(f"{j.outcome}: {_words(j)}", "" if j.outcome == "pass" else "bold red")
    outcomes = {j.outcome for j in judged}
    if "regression" in outcomes:
        raise typer.Exit(1)
    if "not settled" in outcomes:
        raise typer.Exit(NOT_SETTLED)


def _note_conditions(then: Row, now: Row) -> None:
    """What differs besides the code that a gate is meant to judge."""
    for what in ("engine", "model", "machine"):
        before, after = getattr(then, what), getattr(now, what)
        if before != after:
            note(f"note: {what} {before} in the baseline, {after} now")


def _words(judged: Judged) -> str:
    name = f"{judged.limit.metric} in {judged.arm}"
    allowed = f"{judged.limit.share:.1%} allowed"
    if judged.worse is None:
        return f"{name}: not known in both runs, {allowed}"
    sure = ""
    if judged.worse_ci95:
        sure = f" (95 % interval {judged.worse_ci95[0]:+.1%} to {judged.worse_ci95[1]:+.1%})"
    change = "worse" if judged.worse > 0 else "better"
    return (
        f"{name}: {judged.baseline:.4g} → {judged.now:.4g}, {abs(judged.worse):.1%} {change}"
        f"{sure}, {allowed}"
    )


def history(
    folder: Annotated[Path, typer.Argument(help="folder with run directories")] = Path("runs"),
    arm: Annotated[str | None, typer.Option(help="only this arm")] = None,
    as_json: JsonOption = False,
) -> None:
    """All runs of a folder in the order in which they were started, as a trend."""
    from aot.analysis import across

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    found: list[Row] = []
    with status("reading the runs") as line:
        for path in sorted(p for p in folder.iterdir() if p.is_dir()):
            line(f"reading {path.name}")
            try:
                [made] = across.read([path])
            except ToolkitError as error:
                note(f"left out: {error}")
                continue
            found += [r for r in across.rows(made) if arm in (None, r.arm)]
    if not found:
        raise UsageError(f"{folder}: no run in it that has records" + (f" of {arm}" if arm else ""))
    found.sort(key=lambda r: r.started_utc)
    if as_json:
        print_json([asdict(r) for r in found])
        return
    _show_rows(found)


def print_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")


def _show_rows(rows: list[Row]) -> None:
    from aot.analysis.pages.formats import number, ratio_text, seconds

    table = Table(
        "run", "server", "engine", "model", "arm", "ok", "TTFT p50", "p99", "TPOT p50", "req/s",
        "hit ratio", "schedule", "", box=None,
    )  # fmt: skip
    for row in rows:
        table.add_row(
            row.run, row.server, row.engine, row.model, row.arm,
            f"{row.ok}" + (f" ({row.failed} failed)" if row.failed else ""),
            seconds(row.ttft_p50_s), seconds(row.ttft_p99_s), seconds(row.tpot_p50_s),
            number(row.requests_per_s), ratio_text(row.hit_ratio),
            (row.schedule_sha256 or "unknown")[:8], "void" if row.void else "",
        )  # fmt: skip
    out.print(table)
    machines = {row.machine for row in rows}
    if len(machines) > 1:
        for run, machine in {row.run: row.machine for row in rows}.items():
            say(f"{run} ran on {machine}")


def _show_differences(found: list[Difference]) -> None:
    from aot.analysis.pages.formats import metric_text

    for d in found:
        sure = ""
        if d.found.ci95:
            sure = f" ({d.found.ci95[0]:.2f}–{d.found.ci95[1]:.2f})"
        verdict = d.verdict.words if d.found.ci95 else "too few pairs to tell"
        say(
            f"{d.arm} {metric_text(d.metric)} {d.quantile}: {d.runs[0]} ÷ {d.runs[1]} = "
            f"{d.found.ratio:.2f}{sure}, {d.found.pairs} pairs: {verdict}"
        )
