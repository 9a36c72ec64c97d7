"""The composition root of `aot run`: servers × workload × arms × repeats → one run directory.

`changes` are settings that differ from what the files say: a sweep measures the same experiment
under several (scripts/study/study.py).

Every phase (one arm of one repeat on one server) stands alone: start, prove the cache state, warm,
snapshot, replay, snapshot, stop. What was interrupted is kept, and measured again by --resume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count as counting
from pathlib import Path
from typing import Any

from aot.analysis.runs.run import tokens_file
from aot.configs.kernel.errors import ConfigError, UsageError
from aot.configs.loading.load import load, load_workload
from aot.configs.loading.presets import file_of
from aot.configs.loading.settings import Changes, changed
from aot.configs.schema.experiment import MENDED, STORED, Arm, ExperimentConfig
from aot.configs.schema.remote_server import RemoteConfig
from aot.configs.schema.workload import Mixture, WorkloadConfig
from aot.scripts import server_files
from aot.scripts.run import calibration, launch, manifest, remote
from aot.scripts.run.phase import Phase
from aot.scripts.run.session import Session, Traffic
from aot.scripts.run.target import Target
from aot.scripts.terminal import note, status
from aot.scripts.traffic import plan
from aot.scripts.traffic.mended import Mended
from aot.scripts.traffic.mended import prepare as prepare_mended
from aot.serving.local.machine import this_machine
from aot.workloads.plan import scenarios
from aot.workloads.plan.lexicon import Lexicon
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Schedule


@dataclass(slots=True)
class Experiment:
    """An experiment file with everything that it names, checked before anything starts."""

    path: Path
    config: ExperimentConfig
    workload: WorkloadConfig | None
    """None: a log, a trace or a schedule is replayed."""
    targets: list[Target]
    schedule: Schedule
    tokens: dict[str, plan.Tokens | None]
    """By the name of the server: each counts with its own model's tokenizer."""
    changes: Changes
    mended: Mended | None = None

    def resolved(self) -> dict[str, Any]:
        """The files with all defaults filled in and no secret."""
        return {
            "experiment": self.config.model_dump(mode="json"),
            "workload": self._workload(),
            **{f"server {t.name}": t.resolved() for t in self.targets},
        }

    def _workload(self) -> dict[str, Any]:
        if isinstance(self.workload, Mixture):
            # Arrivals and lengths are its parts', which are in the schedule.
            return self.workload.model_dump(mode="json", exclude={"arrivals", "load", "output"})
        if self.workload is not None:
            return self.workload.model_dump(mode="json")
        return {"scenario": "replay", "file": self.schedule.name, **self.schedule.changes}

    def phase(self, folder: Path, repeat: int, target: Target, arm: Arm) -> Phase:
        # One server needs no name in the names of folders.
        return Phase(folder, arm, repeat, target.name if len(self.targets) > 1 else None)


def prepare(path: Path, changes: Changes | None = None) -> Experiment:
    """Read and check an experiment file and all that it names, with `changes` to them."""
    changes = changes or {}
    config = changed("experiment", load(path, ExperimentConfig), changes)
    workload_path = file_of("workload", config.workload, path.parent)
    workload = None
    if workload_path.suffix in plan.YAML:
        workload = changed("workload", load_workload(workload_path), changes)
    elif any(name.startswith("workload") for name in changes):
        raise ConfigError(
            path, f"{workload_path} is replayed as it is: its keys cannot be set", key="workload"
        )
    endpoint = workload.endpoint if workload else plan.endpoint_of(workload_path)
    servers = [file_of("server", file, path.parent) for file in config.server_files]
    targets = [_target(file, changes) for file in servers]
    for target in targets:
        _check_target(path, config, target, endpoint)
    plain = plan.takes_texts(endpoint)
    encoders = {
        t.name: plan.local_encoder(t.tokenizer_folder, plain) if t.tokenizer_folder else None
        for t in targets
    }
    # Texts of exact lengths are exact for the first server's model; the others count them.
    first = next((e for e in encoders.values() if e), None)
    with status("drawing the schedule"):
        lexicon = Lexicon(first) if first else None
        if workload:
            schedule = scenarios.build(workload, workload_path.stem, workload_path.parent, lexicon)
        else:
            schedule = plan.schedule_of(workload_path, first, plan.LEARNED)
        count = partial(_counted, targets=targets, encoders=encoders)
        mended = prepare_mended(path, config, schedule, first, count)
    return Experiment(path, config, workload, targets, schedule, count(schedule), changes, mended)


def _counted(
    schedule: Schedule, targets: list[Target], encoders: Mapping[str, plan.Encode | None]
) -> dict[str, plan.Tokens | None]:
    """By server; UsageError for a prompt that is too long for one of them."""
    tokens = {}
    for target in targets:
        encode = encoders[target.name]
        tokens[target.name] = plan.count_tokens(schedule, encode) if encode else None
        plan.check_context(schedule, tokens[target.name], target.context_tokens, encode)
    return tokens


def _target(path: Path, changes: Changes) -> Target:
    config = changed("server", server_files.read(path), changes)
    if not isinstance(config, RemoteConfig):
        return launch.of(path, config)
    with status(f"looking for the server at {config.url}"):
        return remote.prepare(path, config)


def _check_target(path: Path, config: ExperimentConfig, target: Target, endpoint: str) -> None:
    """ConfigError for what cannot be done with this server."""
    if (stored := sorted(STORED & set(config.arms))) and (why := target.lacks_store(stored)):
        raise ConfigError(path, f"{', '.join(stored)} cannot be measured on {target.path}: {why}",
                          key="arms")  # fmt: skip
    if not target.remote:
        if any(map(target.outlives, config.arms)) and (why := target.lacks_salts(endpoint)):
            raise ConfigError(
                path,
                f"the cache of {target.path} outlives its process (a connector, a storage tier), "
                f"and only fresh cache salts would make it empty: {why}",
                key="arms",
            )
        if config.cache_reset == "endpoint":
            launch.check_reset(path, target)
        return
    if config.cache_reset is not None:
        raise ConfigError(
            path,
            f"{target.path} is a server that somebody else runs: it is neither restarted nor "
            "emptied; every phase gets cache salts of its own there, so leave the key out",
            key="cache_reset",
        )
    if "jit" in config.arms and (why := target.lacks_salts(endpoint)):
        raise ConfigError(
            path,
            f"jit cannot be measured on {target.path}: its caching cannot be turned off from here, "
            f"and {why} to emulate it with; use [auto, aot]",
            key="arms",
        )


def order(experiment: Experiment) -> Iterator[tuple[int, Target, Arm]]:
    """(repeat, server, arm) in the order of measuring. Every second repeat has the order of the one
    before reversed (ABBA), and every other pair of repeats begins with the next (Latin square), so
    that a drift of the machine hits all alike."""
    config = experiment.config
    pairs = [(target, arm) for target in experiment.targets for arm in config.arms]
    for repeat in range(1, config.repeats + 1):
        turn = (repeat - 1) // 2 % len(pairs)
        turned = pairs[turn:] + pairs[:turn]
        for target, arm in turned if repeat % 2 else reversed(turned):
            yield repeat, target, arm


def new_folder(runs: Path, name: str) -> Path:
    """A folder in `runs` that is called after `name` and the time."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    for number in counting(1):
        folder = runs / (f"{name}-{stamp}" if number == 1 else f"{name}-{stamp}-{number}")
        try:
            folder.mkdir(parents=True)  # which one process alone does
        except FileExistsError:
            if runs.exists() and not runs.is_dir():
                raise UsageError(f"{runs}: is no folder; name one with --runs") from None
            continue
        except OSError as error:
            raise UsageError(f"{folder}: cannot be made: {error.strerror}") from None
        return folder
    raise AssertionError


def create(experiment: Experiment, folder: Path) -> None:
    """Write the schedule, the token counts and the manifest into a new run directory."""
    digest = schedule_file.write(experiment.schedule, folder / "schedule.jsonl")
    if experiment.mended:
        experiment.mended.write(folder)
    servers = {}
    for target in experiment.targets:
        plan.write_tokens(experiment.tokens[target.name], folder / tokens_file(target.name))
        servers[target.name] = manifest.server(
            target.engine.name,
            target.model_name,
            remote=target.remote,
            versions=target.versions,
            config=target.resolved(),
            starts=None if target.remote else calibration.of(target),
        )
    facts = manifest.new(experiment.config.name, servers, digest)
    facts["experiment_file"] = str(experiment.path.resolve())
    facts["changes"] = experiment.changes
    facts["configs"] = experiment.resolved()
    facts["phases"] = [
        {"repeat": r, "arm": a, "server": t.name, "folder": experiment.phase(folder, r, t, a).name}
        for r, t, a in order(experiment)
    ]
    manifest.write(folder, facts)


def reopen(folder: Path) -> Experiment:
    """The experiment of an existing run, to measure what is missing.

    Raises UsageError when its files have changed: two halves of a run must not differ.
    """
    try:
        facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        path = Path(facts["experiment_file"])
    except (OSError, ValueError, KeyError):
        raise UsageError(
            f"{folder}: not a run made by 'aot run', so it cannot be resumed"
        ) from None
    experiment = prepare(path, facts.get("changes"))
    changed_files = [k for k, v in experiment.resolved().items() if v != facts["configs"].get(k)]
    if changed_files:
        raise UsageError(
            f"{folder}: its {' and '.join(changed_files)} file changed since it was started; "
            f"restore it, or start anew with: aot run {path}"
        )
    if moved := _moved(experiment, facts):
        raise UsageError(
            f"{folder}: started under other conditions ({', '.join(moved)}); two halves of a run "
            f"must not differ, start anew with: aot run {path}"
        )
    if schedule_file.read(folder / "schedule.jsonl") != experiment.schedule:
        raise UsageError(f"{folder}: the prompts or the scenario changed since it was started")
    if experiment.mended:
        experiment.mended.check(folder)
    return experiment


def _moved(experiment: Experiment, facts: dict[str, Any]) -> list[str]:
    """What is another version or another machine than when the run was started."""
    differences = []
    pairs = [
        (target.versions, facts["servers"][target.name]["versions"])
        for target in experiment.targets
    ]
    pairs.append(({"cpu": this_machine().cpu}, {"cpu": facts["machine"]["cpu"]}))
    for here, then in pairs:
        differences += [f"{k} {then.get(k)} → {v}" for k, v in here.items() if v != then.get(k)]
    return differences


def traffic(experiment: Experiment, folder: Path) -> Traffic:
    """What the run in `folder` replays."""
    return Traffic(folder, experiment.schedule, experiment.tokens)


def measure(experiment: Experiment, folder: Path) -> None:
    """Measure every phase that has no done.json yet, in a folder that is held."""
    usual = traffic(experiment, folder)
    mended = usual
    if own := experiment.mended:
        mended = Traffic(folder / MENDED, own.schedule, own.tokens)
    with Session(experiment.config.cache_reset or "restart") as session:
        for repeat, target, arm in order(experiment):
            phase = experiment.phase(folder, repeat, target, arm)
            if phase.done:
                note(f"{phase.name}: already measured")
            else:
                session.measure(phase, target, mended if arm == MENDED else usual)
