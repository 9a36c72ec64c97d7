"""The verbs that look at runs: one again, several side by side, against a baseline, over time."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.scripts.cli.arguments import JsonOption, RunArgument, verbs
from aot.scripts.cli.choices import ArmName, FigureKind
from aot.scripts.cli.run_tables import show_differences, show_judged, show_runs
from aot.scripts.terminal import note, say, say_json, status

if TYPE_CHECKING:
    from aot.analysis.across import Row

app = verbs()
NOT_SETTLED = 3


@app.command()
def report(
    run_dir: RunArgument,
    figures: Annotated[
        list[FigureKind] | None,
        typer.Option(help="write the figures in this format, too; can be given again"),
    ] = None,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="print report.html as report.pdf, too (needs Chromium)")
    ] = False,
) -> None:
    """Rebuild the report of a run from its records.

    report.html, report.md, summary.json, requests.csv and figures/.
    """
    from aot.scripts.run.concluding import write_report

    write_report(run_dir, [str(kind) for kind in figures or ()])
    if pdf:
        from aot.analysis.pages.pdf import print_page

        print_page(run_dir / "report.html", run_dir / "report.pdf")
        say(f"as PDF: {run_dir / 'report.pdf'}")


@app.command()
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
    """Runs side by side, and over the same requests.

    The first is compared with each of the others.
    """
    from aot.analysis import across, imported

    if len(runs) < 2:
        raise UsageError("give at least two run directories")
    with status("reading the runs"):
        evaluations = across.read([p for p in runs if not p.is_file()])
        imported_rows = [row for p in runs if p.is_file() for row in imported.read(p)]
    if len(evaluations) > 1 and not different_schedules:
        across.insist_on_one_schedule(
            evaluations, "--different-schedules shows them side by side without ratios"
        )
    rows = [row for m in evaluations for row in across.rows(m)] + imported_rows
    differences = []
    if not different_schedules:
        differences = [
            d
            for evaluation in evaluations[1:]
            for d in across.differences(evaluations[0], evaluation)
        ]
    if as_json:
        ratios = [asdict(d) | {"ratio": d.found.ratio} for d in differences]
        say_json({"runs": [asdict(r) for r in rows], "differences": ratios})
        return
    show_runs(rows)
    show_differences(differences)


@app.command()
def gate(
    run: RunArgument,
    against: Annotated[Path, typer.Option(help="run directory of the baseline")],
    max_regression: Annotated[
        list[str],
        typer.Option(
            help="METRIC=PERCENT%, can be given again: ttft_p50, ttft_p90, ttft_p99, tpot_..., "
            "e2e_..., requests_per_s, output_tokens_per_s, hit_ratio"
        ),
    ],
    arm: Annotated[ArmName, typer.Option(help="which one")] = "aot",
    as_json: JsonOption = False,
) -> None:
    """Has a run become worse than its baseline? For CI.

    Exit code 0: no, 1: yes, 3: not settled.

    Latencies are compared over the same requests. It passes where the whole 95 % interval of the
    next run is within what is allowed; a regression is worse than allowed with the whole interval
    above the baseline. Anything else is not settled: measure more repeats of both (three or more),
    or 'aot calibrate' how starts of the server differ.
    """
    from aot.analysis import across
    from aot.analysis import gate as gates

    limits = [gates.limit(text) for text in max_regression]
    with status("reading the runs"):
        now, then = across.read([run, against])
    judged = gates.judge(now, then, limits, arm)
    _note_conditions(*(across.rows(m)[0] for m in (then, now)))
    if as_json:
        say_json([asdict(j) for j in judged])
    else:
        show_judged(judged)
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


@app.command()
def history(
    folder: Annotated[Path, typer.Argument(help="folder with run directories")] = Path("runs"),
    arm: Annotated[ArmName | None, typer.Option(help="only this arm")] = None,
    as_json: JsonOption = False,
) -> None:
    """All runs of a folder, in the order of time."""
    from aot.analysis import across

    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    rows: list[Row] = []
    with status("reading the runs") as line:
        for path in sorted(p for p in folder.iterdir() if p.is_dir()):
            line(f"reading {path.name}")
            try:
                [evaluation] = across.read([path])
            except ToolkitError as error:
                note(f"left out: {error}")
                continue
            rows += [r for r in across.rows(evaluation) if arm in (None, r.arm)]
    if not rows:
        raise UsageError(f"{folder}: no run in it that has records" + (f" of {arm}" if arm else ""))
    rows.sort(key=lambda r: r.started_utc)
    if as_json:
        say_json([asdict(r) for r in rows])
        return
    show_runs(rows)
