"""The verbs that measure one experiment several times: sweep, capacity, tune, calibrate."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.scripts.cli.arguments import (
    ExperimentArgument,
    OptionalServerArgument,
    ResumeOption,
    RunsOption,
    verbs,
)
from aot.scripts.cli.choices import LoadedArm
from aot.scripts.terminal import say, status, table

if TYPE_CHECKING:
    from aot.analysis.studies.study import StudyRun
    from aot.analysis.studies.study_page import Page
    from aot.scripts.study.study import Study


app = verbs()


@app.command()
def sweep(
    experiment: ExperimentArgument = None,
    over: Annotated[
        str | None,
        typer.Option(
            help="SETTING=VALUE,VALUE,... with ... for steps in between: static_tokens, "
            "dynamic_tokens, rate, tenants, users, block_size, cache_size, or any key as "
            "workload.KEY or server.KEY",
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
    resume: ResumeOption = None,
) -> None:
    """Measure an experiment at several values of one setting.

    The curves are drawn on one page.
    A server is started once per arm, and again only for settings that need it (block_size,
    cache_size, server.KEY). Each point is a run of its own with its own report.

    Where caching begins to pay: aot sweep EXPERIMENT --over static_tokens=0,256,...,4096
    """
    from aot.analysis.studies import sweep_page
    from aot.scripts.study import study
    from aot.scripts.study import sweep as work

    if resume is not None:
        _only_resume(experiment, over)
        sweep_study = study.reopen(resume, "sweep")
    else:
        path = _given(experiment)
        if over is None:
            raise UsageError("--over is missing, as in --over static_tokens=0,256,...,4096")
        sweep_study = work.begin(path, over, runs)
    points = work.points(sweep_study)
    study.kept(
        sweep_study,
        lambda: work.measure(sweep_study, points),
        lambda: _show(sweep_study, sweep_page.of_folder),
    )


@app.command()
def capacity(
    experiment: ExperimentArgument = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(
            help="METRIC_QUANTILE=SECONDS, as in ttft_p99=0.5 or ttft_p99=500ms; metrics ttft, "
            "tpot, e2e; quantiles p50, p90, p99; can be given again, then all must be kept"
        ),
    ] = None,
    start: Annotated[
        float | None, typer.Option(help="requests/s to try first; default: the workload's rate")
    ] = None,
    precision: Annotated[
        float, typer.Option(help="stop when the interval of a capacity is this factor wide")
    ] = 1.2,
    most_replays: Annotated[int, typer.Option(help="replays of each arm at most", min=3)] = 16,
    runs: RunsOption = Path("runs"),
    resume: ResumeOption = None,
) -> None:
    """Find the highest rate at which each arm keeps an SLO.

    For every arm one server is started; on it rates are doubled or halved until one keeps the
    limits and one does not, then replays go on around the capacity, each with arrivals of its own.
    A curve through all of them gives the capacity of each arm, and their ratio, with intervals.

    aot capacity EXPERIMENT --slo ttft_p99=0.5 --slo tpot_p90=0.05
    """
    from aot.analysis.studies import capacity_page
    from aot.scripts.study import capacity as work
    from aot.scripts.study import study

    if resume is not None:
        _only_resume(experiment, slo)
        capacity_study = study.reopen(resume, "capacity")
    else:
        path = _given(experiment)
        if not slo:
            raise UsageError("--slo is missing, as in --slo ttft_p99=0.5")
        capacity_study = work.begin(path, slo, start, precision, most_replays, runs)
    study.kept(
        capacity_study,
        lambda: work.search(capacity_study),
        lambda: _show(capacity_study, capacity_page.of_folder),
    )


@app.command()
def tune(
    server: OptionalServerArgument = None,
    experiment: ExperimentArgument = None,
    objective: Annotated[
        str, typer.Option(help="what should be low: ttft_p50, ttft_p90, tpot_p50, e2e_p50, ...")
    ] = "ttft_p50",
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="SETTING=VALUE,VALUE instead of the usual ones; can be given again: block_size, "
            "cache_size, batched_tokens, chunked_prefill, or any key as server.KEY"
        ),
    ] = None,
    runs: RunsOption = Path("runs"),
    resume: ResumeOption = None,
) -> None:
    """Try a server's cache settings; recommend what is shown to help.

    The traffic is the experiment's, whose own server is not used; the arm is aot.

    Unless told: block size, cache size, batched tokens, chunked prefill (vLLM), scheduling policy
    (SGLang). The file itself is not changed. Settings with which the engine does not start are
    listed and left out.
    """
    from aot.analysis.studies import tuning
    from aot.scripts.study import study
    from aot.scripts.study import tune as work

    if resume is not None:
        _only_resume(experiment or server, over)
        tune_study = study.reopen(resume, "tune")
    else:
        if server is None or experiment is None:
            raise UsageError("give a server file and an experiment file, or --resume FOLDER")
        tune_study = work.begin(server, experiment, objective, over or [], runs)
    study.kept(
        tune_study, lambda: work.search(tune_study), lambda: _show(tune_study, tuning.of_folder)
    )


def _given(experiment: Path | None) -> Path:
    if experiment is None:
        raise UsageError("give either an experiment file or --resume FOLDER")
    return experiment


def _only_resume(experiment: Path | None, settings: object) -> None:
    if experiment is not None or settings:
        raise UsageError("--resume goes on as it was started: give the folder and nothing else")


@app.command()
def calibrate(
    experiment: ExperimentArgument = None,
    starts: Annotated[int, typer.Option(help="of the server, each with the same requests")] = 5,
    arm: Annotated[LoadedArm, typer.Option(help="which one")] = "auto",
    runs: RunsOption = Path("runs"),
    resume: ResumeOption = None,
) -> None:
    """Measure how starts of a server differ; verdicts allow for it.

    One arm, the same requests, a fresh process each time: whatever differs is the start's. The
    result is kept by machine and server file; runs that are made afterwards take it instead of the
    5 % that is assumed, where they have fewer than three repeats. Use a workload with a low rate.
    """
    from aot.scripts.study import calibrate as work
    from aot.scripts.study import study

    if resume is not None:
        _only_resume(experiment, None)
        calibration = study.reopen(resume, "calibrate")
    else:
        calibration = work.begin(_given(experiment), starts, arm, runs)
    study.kept(calibration, lambda: work.measure(calibration), lambda: None)
    found, path = work.keep(calibration)
    say(found.words)
    half = found.half_width(1.0)
    say(
        f"one repeat calls an effect from a ratio of {math.exp(half):.2f} on, where requests "
        "themselves tell no more"
    )
    say(f"kept in {path}: runs of this server file on this machine take it from now on")


def _show(
    study: Study, of_folder: Callable[[Path, Callable[[str], None]], tuple[StudyRun, Page]]
) -> None:
    """Write a study's page, and its words on the terminal. ToolkitError where a run of it has
    requests that were not answered, or is void."""
    from aot.analysis.studies.study_page import voided

    with status("writing the reports") as tell:
        read, page = of_folder(study.folder, tell)
    for shown in page.tables:
        table(shown.columns, shown.rows, title=shown.title)
    for words in voided(read):
        say(f"void: {words}", "bold red")
    for words in page.warnings:
        say(f"warning: {words}")
    for line in page.headlines:
        say(line, "bold")
    say(f"report: {read.folder / 'report.html'}")
    # A rate at which requests time out is an answer to a capacity search, not a failure of it.
    failed = [p.label for p in read.points if p.evaluation and p.evaluation.unanswered]
    if failed and study.facts["kind"] != "capacity":
        raise ToolkitError(f"not every request was answered: {', '.join(failed)}")
