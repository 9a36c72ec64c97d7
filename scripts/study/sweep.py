"""`aot sweep`: one experiment at several values of one setting.

A server is started once for each arm and each setting that needs a start; all points that share it
are measured on it, every phase with an empty cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.load import load, load_workload
from aot.configs.loading.presets import file_of
from aot.configs.loading.settings import SHORT, Value, full_name, value
from aot.configs.schema.experiment import Arm, ExperimentConfig
from aot.configs.schema.workload import Mixture
from aot.scripts.run.experiment import order
from aot.scripts.run.target import Target
from aot.scripts.study.study import Point, Study, create
from aot.scripts.terminal import note
from aot.scripts.traffic.plan import YAML


def values(text: str, least: int = 2) -> list[Value]:
    """A,B,C, where `...` continues the step of the two values before it up to the one after it.

    Raises UsageError for fewer than `least` values, one twice, and a step that does not fit.
    """
    parts = [p.strip() for p in text.split(",")]
    series: list[Value] = []
    for n, part in enumerate(parts):
        if part == "...":
            series += _between(series, parts[n + 1 : n + 2])
        elif part == "":
            raise UsageError(f"'{text}': a value is missing between two commas")
        else:
            series.append(value(part))
    if len(series) < least:
        raise UsageError(f"'{text}': a sweep needs two values or more, as in 0,256,...,4096")
    if len(set(map(str, series))) < len(series):
        raise UsageError(f"'{text}': a value is there twice")
    return series


def _between(before: Sequence[Value], after: Sequence[str]) -> Iterator[Value]:
    ends = [*before[-2:], *(value(a) for a in after)]
    numbers = [n for n in ends if isinstance(n, int | float) and not isinstance(n, bool)]
    if len(numbers) < 3:
        raise UsageError("'...' needs two numbers before it and one after it: 0,256,...,4096")
    step = numbers[1] - numbers[0]
    if step == 0 or (numbers[2] - numbers[1]) / step < 1:
        raise UsageError(f"'...': {numbers[2]} is not reached from {numbers[1]} in steps of {step}")
    count = round((numbers[2] - numbers[1]) / step)
    if abs(numbers[1] + count * step - numbers[2]) > 1e-9 * abs(numbers[2]):
        raise UsageError(f"'...': {numbers[2]} is not a whole number of steps of {step} away")
    for n in range(1, count):
        yield round(numbers[1] + n * step, 10)


def begin(experiment_file: Path, over: str, runs: Path) -> Study:
    """A new sweep with all its points checked. Raises UsageError before anything starts."""
    name, equals, text = over.partition("=")
    if not equals:
        raise UsageError(f"--over {over}: expected SETTING=VALUE,VALUE,..., as in rate=1,2,4")
    config = load(experiment_file, ExperimentConfig)
    path = file_of("workload", config.workload, experiment_file.parent)
    workload = load_workload(path) if path.suffix in YAML else None
    setting = full_name(name.strip(), workload)
    if workload is None and setting.startswith("workload."):
        raise UsageError(f"{path} is replayed as it is: its keys cannot be set")
    options = {"setting": setting, "short": name.strip(), "values": values(text)}
    if isinstance(workload, Mixture) and setting == SHORT["rate"]:
        raise UsageError(f"{path}: a mixture has the rates of its parts, and none of its own")
    if workload and setting == SHORT["rate"] and workload.load.mode == "closed":
        raise UsageError(
            f"{path}: load.mode is closed, where users send as fast as they are answered and a "
            "rate changes nothing; use 'load: {mode: open}', or --over users=1,2,4"
        )
    return create("sweep", experiment_file, runs, options)


def points(study: Study) -> list[Point]:
    """Every point, checked: its files read, its schedule drawn, its run directory made."""
    setting, short = study.options["setting"], study.options["short"]
    sweep_points = []
    for v in study.options["values"]:
        note(f"preparing {short}={v}")
        sweep_points.append(study.point(f"{short}={v}", {setting: v}))
    return sweep_points


def measure(study: Study, sweep_points: list[Point]) -> None:
    """Every phase of every point that is not there yet."""
    todo = list(plan(sweep_points))
    for number, (point, repeat, target, arm) in enumerate(todo, 1):
        note(f"[{number}/{len(todo)}] {point.label}, {arm}, repeat {repeat}")
        study.measure(point, repeat, target, arm)


def plan(sweep_points: list[Point]) -> Iterator[tuple[Point, int, Target, Arm]]:
    """The order of measuring: points that can share a server together; every second repeat in
    reverse, so that a drift of the machine is no trend over the setting."""
    servers = [
        list(group)
        for _, group in groupby(sweep_points, lambda p: p.experiment.targets[0].resolved())
    ]
    for repeat in range(1, sweep_points[0].experiment.config.repeats + 1):
        turn = 1 if repeat % 2 else -1
        for group in servers[::turn]:
            turns = [(t.name, a) for r, t, a in order(group[0].experiment) if r == repeat]
            for name, arm in turns:
                for point in group[::turn]:
                    target = next(t for t in point.experiment.targets if t.name == name)
                    yield point, repeat, target, arm
