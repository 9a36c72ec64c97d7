"""`aot capacity`: the highest rate at which an arm keeps the limits, arm by arm."""

from __future__ import annotations

from pathlib import Path

from aot.analysis import report
from aot.analysis.studies import rate_search, slo
from aot.analysis.studies.rate_search import Tried
from aot.analysis.studies.slo import Limit, Outcome
from aot.configs.kernel.errors import UsageError
from aot.configs.loading.load import load, load_workload
from aot.configs.loading.presets import file_of
from aot.configs.loading.settings import SHORT, Changes
from aot.configs.schema.experiment import Arm, ExperimentConfig
from aot.scripts.study.study import Study, create
from aot.scripts.terminal import note


def begin(
    experiment_file: Path,
    limits: list[str],
    start_per_s: float | None,
    precision: float,
    most_rates: int,
    runs: Path,
) -> Study:
    """A new search, checked. Raises UsageError before anything starts."""
    config = load(experiment_file, ExperimentConfig)
    path = file_of("workload", config.workload, experiment_file.parent)
    workload = load_workload(path)
    for text in limits:
        slo.limit(text)
    if len(config.server_files) > 1:
        raise UsageError(f"{experiment_file}: a capacity is of one server; name one as 'server'")
    if workload.load.mode == "closed":
        raise UsageError(
            f"{path}: load.mode is closed, where the server sets the rate; a capacity needs "
            "'load: {mode: open}'"
        )
    own = getattr(workload.arrivals, "rate_per_s", None)
    if own is None:
        raise UsageError(
            f"{path}: arrivals of kind {workload.arrivals.kind} have no single rate; use poisson, "
            "constant or gamma"
        )
    if start_per_s is not None and start_per_s <= 0:
        raise UsageError(f"--start {start_per_s:g}: a rate above 0, in requests/s")
    if precision <= 1:
        raise UsageError(f"--precision {precision:g}: a factor above 1, as in 1.1")
    options = {
        "slo": limits,
        "arms": list(config.arms),
        "start_per_s": start_per_s if start_per_s is not None else own,
        "precision": precision,
        "most_rates": most_rates,
        "requests": workload.requests,
    }
    return create("capacity", experiment_file, runs, options)


def limits_of(study: Study) -> list[Limit]:
    return [slo.limit(text) for text in study.options["slo"]]


def search(study: Study) -> None:
    """Every arm, one after the other: all its rates on one server."""
    for arm in study.options["arms"]:
        _search(study, arm)


def _search(study: Study, arm: Arm) -> None:
    options, limits = study.options, limits_of(study)
    tried: list[Tried] = []
    start: float = options["start_per_s"]
    while len(tried) < options["most_rates"]:
        rate = rate_search.next_rate(tried, start, options["precision"])
        if rate is None:
            return
        note(f"{arm}: {rate:g} requests/s, about {options['requests'] / rate:.0f} s")
        outcome = _try(study, arm, rate, limits)
        note(f"{arm}: {rate:g} requests/s {'kept' if outcome.kept else f'missed ({outcome.why})'}")
        tried.append(Tried(rate, outcome.kept))
    note(f"{arm}: stopped after {len(tried)} rates; --most-rates allows more")


def _try(study: Study, arm: Arm, rate: float, limits: list[Limit]) -> Outcome:
    """As many repeats as it takes to decide."""
    outcomes: list[Outcome] = []
    while (decided := slo.decided(outcomes)) is None:
        outcomes.append(_once(study, arm, rate, len(outcomes) + 1, limits))
    return decided


def _once(study: Study, arm: Arm, rate: float, repeat: int, limits: list[Limit]) -> Outcome:
    changes: Changes = {"experiment.arms": [arm], "experiment.repeats": 1, SHORT["rate"]: rate}
    again = f", again ({repeat})" if repeat > 1 else ""
    point = study.point(f"{arm} at {rate:g}/s{again}", changes)
    study.measure(point, 1, point.experiment.targets[0], arm)
    return slo.check(report.evaluate(point.folder), arm, limits)
