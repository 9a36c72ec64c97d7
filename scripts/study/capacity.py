"""`aot capacity`: the highest rate at which an arm keeps the limits, arm by arm.

Replay n of every arm draws its arrivals with the same seed, and another than replay n + 1.
"""

from __future__ import annotations

from pathlib import Path

from aot.analysis import report
from aot.analysis.checks.validity import OFFERED
from aot.analysis.studies import rate_search, slo
from aot.analysis.studies.rate_search import Trial
from aot.analysis.studies.slo import Limit
from aot.configs.kernel.errors import UsageError
from aot.configs.loading.load import load, load_workload
from aot.configs.loading.presets import file_of
from aot.configs.loading.settings import SHORT, Changes
from aot.configs.schema.experiment import Arm, ExperimentConfig
from aot.configs.schema.workload import Mixture
from aot.scripts.study.study import Point, Study, create
from aot.scripts.terminal import note

MOST_VOID = 3
"""Void replays of an arm before it is given up: what voids so many is not chance."""


def begin(
    experiment_file: Path,
    limits: list[str],
    start_per_s: float | None,
    precision: float,
    most_replays: int,
    runs: Path,
) -> Study:
    """A new search, checked. Raises UsageError before anything starts."""
    config = load(experiment_file, ExperimentConfig)
    path = file_of("workload", config.workload, experiment_file.parent)
    workload = load_workload(path)
    for text in limits:
        slo.limit(text)
    if isinstance(workload, Mixture):
        raise UsageError(f"{path}: a mixture has the rates of its parts, and none of its own")
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
        raise UsageError(f"--precision {precision:g}: a factor above 1, as in 1.2")
    options = {
        "slo": limits,
        "arms": list(config.arms),
        "start_per_s": start_per_s if start_per_s is not None else own,
        "precision": precision,
        "most_replays": most_replays,
        "requests": workload.requests,
        "seed": workload.seed,
    }
    return create("capacity", experiment_file, runs, options)


def limits_of(study: Study) -> list[Limit]:
    return [slo.limit(text) for text in study.options["slo"]]


def search(study: Study) -> None:
    """Every arm, one after the other: all its replays on one server."""
    for arm in study.options["arms"]:
        _search(study, arm)


def _search(study: Study, arm: Arm) -> None:
    options, limits = study.options, limits_of(study)
    if "most_replays" not in options:
        raise UsageError(
            f"{study.folder}: begun by an earlier version, which searched in another way; start "
            f"anew with: aot capacity {study.experiment_file}"
        )
    shares = [x.allowed for x in limits]
    trials: list[Trial] = []
    ceiling, void = float("inf"), 0
    for number in range(1, options["most_replays"] + 1):
        rate = rate_search.next_rate(
            trials, shares, options["start_per_s"], options["precision"], ceiling
        )
        if rate is None:
            if ceiling < float("inf"):
                note(f"{arm}: {ceiling:g} requests/s could not be offered, so it ends below that")
            return
        note(f"{arm}: {rate:g} requests/s, about {options['requests'] / rate:.0f} s")
        point = _measured(study, arm, rate, number)
        outcome = slo.check(report.evaluate(point.folder), arm, limits, rate)
        note(f"{arm}: {rate:g} requests/s {_words(outcome)}")
        if outcome.trial is not None:
            trials.append(outcome.trial)
            continue
        void += 1
        if outcome.why.startswith(OFFERED):
            ceiling = min(ceiling, rate)
        if void > MOST_VOID or (rate >= ceiling and not trials):
            note(f"{arm}: given up; its replays are void, see their reports")
            return
    note(f"{arm}: stopped after {options['most_replays']} replays; --most-replays allows more")


def _words(outcome: slo.Outcome) -> str:
    if outcome.kept is None:
        return f"void, so it decides nothing ({outcome.why})"
    return "kept" if outcome.kept else f"missed ({outcome.why})"


def _measured(study: Study, arm: Arm, rate: float, number: int) -> Point:
    changes: Changes = {
        "experiment.arms": [arm],
        "experiment.repeats": 1,
        "workload.seed": study.options["seed"] + number - 1,
        SHORT["rate"]: rate,
    }
    point = study.point(f"{arm}, replay {number} at {rate:g}/s", changes)
    study.measure(point, 1, point.experiment.targets[0], arm)
    return point
