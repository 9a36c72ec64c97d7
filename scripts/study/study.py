"""A study: one experiment measured under several settings, each a run directory of its own.

runs/NAME-KIND-TIMESTAMP/
  study.json           what is asked, and the points so far
  points/LABEL/        a run directory, with its own report

A sweep knows its points beforehand; a capacity search and a tuning run choose the next one by what
the last ones gave. All of them are resumed by starting over: what is measured already is read.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from aot.analysis.studies.study import FORMAT
from aot.configs.kernel import network
from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.kernel.files import held, replacing
from aot.configs.loading.settings import Changes
from aot.configs.schema.experiment import Arm, CacheReset
from aot.scripts.run import experiment as root
from aot.scripts.run.experiment import Experiment
from aot.scripts.run.session import Session, Traffic
from aot.scripts.run.target import Target
from aot.scripts.terminal import note

Kind = Literal["sweep", "capacity", "tune", "calibrate"]


@dataclass(slots=True)
class Point:
    """One setting of everything: an experiment that is ready, and where its run is."""

    label: str
    folder: Path
    experiment: Experiment
    traffic: Traffic


@dataclass(slots=True)
class Study:
    """Use it as a context: the server that is up ends with it."""

    folder: Path
    facts: dict[str, Any]
    points: dict[str, Point] = field(default_factory=dict)
    _session: Session | None = None

    @property
    def experiment_file(self) -> Path:
        return Path(self.facts["experiment_file"])

    @property
    def options(self) -> dict[str, Any]:
        options: dict[str, Any] = self.facts["options"]
        return options

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session:
            self._session.__exit__()

    def point(self, label: str, changes: Changes) -> Point:
        """The point `label`, its files checked and its run directory made where it is new."""
        if label in self.points:
            return self.points[label]
        folder = self.folder / "points" / folder_name(label)
        if (folder / "manifest.json").exists():
            experiment = root.reopen(folder)
        else:
            experiment = root.prepare(self.experiment_file, changes)
            folder.mkdir(parents=True, exist_ok=True)
            root.create(experiment, folder)
        point = Point(label, folder, experiment, root.traffic(experiment, folder))
        self.points[label] = point
        entry = {"label": label, "changes": changes, "folder": folder.name}
        others = [p for p in self.facts["points"] if p["label"] != label]
        self.facts["points"] = [*others, entry]
        write(self.folder, self.facts)
        return point

    def measure(self, point: Point, repeat: int, target: Target, arm: Arm) -> None:
        """One phase of a point, unless it is there already."""
        phase = point.experiment.phase(point.folder, repeat, target, arm)
        if phase.done:
            note(f"{point.label}, {phase.name}: already measured")
            return
        if self._session is None:
            self._session = Session(sharing(point.experiment), has_controls=True)
        self._session.measure(phase, target, point.traffic)


def sharing(experiment: Experiment) -> CacheReset:
    """How points share a server: as the experiment says, else by fresh cache salts, or by the reset
    endpoint of an engine that has no salts; a restart where neither is there."""
    if experiment.config.cache_reset is not None:
        return experiment.config.cache_reset
    endpoint = experiment.schedule.endpoint
    if not any(t.lacks_salts(endpoint) for t in experiment.targets):
        return "salts"
    engines = [t.engine for t in experiment.targets]
    if all(e.reset is not None and not e.reset.needs_dev_mode for e in engines):
        return "endpoint"
    return "restart"


def create(kind: Kind, experiment_file: Path, runs: Path, options: dict[str, Any]) -> Study:
    """A new study in a folder of its own; `options` is what resuming needs to know."""
    name = root.prepare(experiment_file).config.name
    folder = root.new_folder(runs, f"{name}-{kind}")
    facts = {
        "format": FORMAT,
        "kind": kind,
        "name": name,
        "experiment_file": str(experiment_file.resolve()),
        "started_utc": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "command": network.shown_command(sys.argv[1:]),
        "options": options,
        "points": [],
    }
    write(folder, facts)
    return Study(folder, facts)


def reopen(folder: Path, kind: Kind) -> Study:
    """A study that was begun. UsageError where `folder` is none of this kind."""
    try:
        facts = json.loads((folder / "study.json").read_text(encoding="utf-8"))
        header = facts["format"], facts["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            f"{folder}: not a folder of 'aot {kind}' (no readable study.json)"
        ) from None
    if header != (FORMAT, kind):
        raise UsageError(f"{folder}: a {header[1]} ({header[0]}); resume it with: aot {header[1]}")
    return Study(folder, facts)


def write(folder: Path, facts: dict[str, Any]) -> None:
    with replacing(folder / "study.json") as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def folder_name(label: str) -> str:
    """A label as a folder: what file systems and shells take without quotes."""
    return re.sub(r"[^\w.=+-]+", "_", label)


def kept(study: Study, work: Callable[[], None], report: Callable[[], None]) -> None:
    """Do `work`, then `report`; what was measured is reported whatever stopped the rest."""
    note(f"folder: {study.folder}")
    try:
        with held(study.folder), study:
            work()
    except (ToolkitError, SystemExit):
        if any((p.folder / "phases").is_dir() for p in study.points.values()):
            report()
        verb = study.facts["kind"]
        note(f"not finished; measure the rest with: aot {verb} --resume {study.folder}")
        raise
    report()
