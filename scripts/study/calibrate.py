"""`aot calibrate`: the same arm of the same server again and again, to see what a start makes."""

from __future__ import annotations

from pathlib import Path

from aot.analysis import report
from aot.analysis.inference import starts
from aot.analysis.inference.starts import ENOUGH, Starts
from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.loading.load import load
from aot.configs.loading.settings import Changes
from aot.configs.schema.experiment import Arm, ExperimentConfig
from aot.scripts.run import calibration
from aot.scripts.study.study import Point, Study, create
from aot.scripts.terminal import note

LABEL = "as it is"


def begin(experiment_file: Path, count: int, arm: Arm, runs: Path) -> Study:
    """A new calibration, checked. Raises UsageError before anything starts."""
    config = load(experiment_file, ExperimentConfig)
    if len(config.server_files) > 1:
        raise UsageError(f"{experiment_file}: a calibration is of one server; name one as 'server'")
    if count < ENOUGH:
        raise UsageError(f"--starts {count}: {ENOUGH} or more tell how they differ")
    return create("calibrate", experiment_file, runs, {"starts": count, "arm": arm})


def measure(study: Study) -> None:
    """Every start, each with the same requests."""
    point = _point(study)
    if point.experiment.targets[0].remote:
        raise UsageError(
            f"{study.experiment_file}: the server is somebody else's and cannot be started anew"
        )
    for repeat in range(1, study.options["starts"] + 1):
        note(f"start {repeat} of {study.options['starts']}")
        study.measure(point, repeat, point.experiment.targets[0], study.options["arm"])


def _point(study: Study) -> Point:
    changes: Changes = {
        "experiment.arms": [study.options["arm"]],
        "experiment.repeats": study.options["starts"],
        "experiment.cache_reset": "restart",
    }
    return study.point(LABEL, changes)


def keep(study: Study) -> tuple[Starts, Path]:
    """Derive how the starts differ, and keep it. ToolkitError where too few count."""
    point = _point(study)
    evaluation = report.write(point.folder)
    if evaluation.void:
        raise ToolkitError(f"{point.folder}: void, so nothing follows from it; see its report")
    found = starts.measured(evaluation.frame)
    if found is None:
        raise ToolkitError(f"{point.folder}: fewer than {ENOUGH} starts were measured to the end")
    return found, calibration.keep(point.experiment.targets[0], found, point.folder)
