"""The composition root of `aot run`: server × workload × arms × repeats → one run directory.

Every phase (one arm of one repeat) stands alone: start, prove the cache state, warm, snapshot,
replay, snapshot, stop. What was interrupted is kept, and measured again by --resume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from configs.errors import CacheStateError, ConfigError, UsageError
from configs.load import load
from configs.schema import Arm, ExperimentConfig, WorkloadConfig
from scripts import launch, manifest, plan
from scripts.launch import Launcher
from scripts.phase import Phase
from scripts.terminal import note, status
from serving import proof
from serving.endpoint import Endpoint
from serving.machine import this_machine
from serving.server import Server
from workloads import scenarios
from workloads import schedule as schedule_file
from workloads.request import Schedule


@dataclass(slots=True)
class Experiment:
    """An experiment file with everything that it names, checked before anything starts."""

    path: Path
    config: ExperimentConfig
    workload: WorkloadConfig
    launcher: Launcher
    schedule: Schedule
    tokens: plan.Tokens | None

    def resolved(self) -> dict[str, Any]:
        """The three configs with all defaults filled in and no secret."""
        return {
            "experiment": self.config.model_dump(mode="json"),
            "server": manifest.without_secrets(self.launcher.config.model_dump(mode="json")),
            "workload": self.workload.model_dump(mode="json"),
        }


def prepare(path: Path) -> Experiment:
    """Read and check an experiment file and all that it names."""
    config = load(path, ExperimentConfig)
    workload_path = path.parent / config.workload
    workload = load(workload_path, WorkloadConfig)
    launcher = launch.prepare(path.parent / config.server)
    if config.cache_reset == "endpoint" and not launcher.config.dev_mode:
        raise ConfigError(
            path, f"endpoint needs 'dev_mode: true' in {launcher.path}", key="cache_reset"
        )
    schedule = scenarios.build(workload, workload_path.stem, workload_path.parent)
    encode = plan.local_encoder(launcher.model)
    tokens = plan.count_tokens(schedule, encode) if encode else None
    plan.check_context(schedule, tokens, launcher.config.context_tokens)
    return Experiment(path, config, workload, launcher, schedule, tokens)


def order(config: ExperimentConfig) -> Iterator[tuple[int, Arm]]:
    """(repeat, arm) in the order of measuring: reversed every other repeat, so that a drift of
    the machine hits all arms alike."""
    for repeat in range(1, config.repeats + 1):
        for arm in config.arms if repeat % 2 else reversed(config.arms):
            yield repeat, arm


def create(experiment: Experiment, runs: Path) -> Path:
    """A new run directory with the schedule, the token counts and the manifest in it."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = runs / f"{experiment.config.name}-{stamp}"
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be made: {error.strerror}") from None
    digest = schedule_file.write(experiment.schedule, folder / "schedule.jsonl")
    if experiment.tokens is not None:
        plan.write_tokens(experiment.tokens, folder / "tokens.parquet")
    launcher = experiment.launcher
    facts = manifest.new(
        experiment.config.name, launcher.engine.name, launcher.config.name_in_api, digest
    )
    facts["versions"].update(launcher.environment.versions)
    facts["experiment_file"] = str(experiment.path.resolve())
    facts["configs"] = experiment.resolved()
    facts["phases"] = [{"repeat": r, "arm": a} for r, a in order(experiment.config)]
    manifest.write(folder, facts)
    return folder


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
    experiment = prepare(path)
    here = {**experiment.launcher.environment.versions, "cpu": this_machine().cpu}
    then = {**facts["versions"], "cpu": facts["machine"]["cpu"]}
    moved = [f"{k} {then.get(k)} → {v}" for k, v in here.items() if v != then.get(k)]
    if moved:
        raise UsageError(
            f"{folder}: started under other conditions ({', '.join(moved)}); two halves of a run "
            f"must not differ, start anew with: aot run {path}"
        )
    changed = [k for k, v in experiment.resolved().items() if v != facts["configs"].get(k)]
    if changed:
        raise UsageError(
            f"{folder}: its {' and '.join(changed)} file changed since it was started; "
            f"restore it, or start anew with: aot run {path}"
        )
    if schedule_file.read(folder / "schedule.jsonl") != experiment.schedule:
        raise UsageError(f"{folder}: the prompts or the scenario changed since it was started")
    return experiment


def measure(experiment: Experiment, folder: Path) -> None:
    """Measure every phase that has no done.json yet."""
    with _Session(experiment, folder) as session:
        for repeat, arm in order(experiment.config):
            phase = Phase(folder, arm, repeat)
            if phase.done:
                note(f"{phase.name}: already measured")
            else:
                session.measure(phase)


@dataclass(slots=True)
class _Session:
    """The server that is running now, if any, and the run it is measured for."""

    experiment: Experiment
    run_folder: Path
    _stack: ExitStack = field(default_factory=ExitStack)
    _server: Server | None = None
    _caching: bool | None = None

    def __enter__(self) -> _Session:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def measure(self, phase: Phase) -> None:
        phase.begin()
        experiment, launcher = self.experiment, self.experiment.launcher
        server, reset = self._empty_server(phase)
        phase.write("command.json", {"command": server.plan.as_shell()})
        endpoint = launcher.endpoint(server.plan)
        self._tokens_from(endpoint)
        with status(f"proving the cache state for {phase.arm}"):
            nonce = f"{self.run_folder.name}/{phase.name}"
            wanted = proof.Wanted(phase.arm, launcher.config.block_tokens, reset)
            found = proof.prove(endpoint, launcher.engine, wanted, nonce)
        phase.write("proof.json", found.as_json())
        proof.insist(found)
        if phase.arm == "aot":
            phase.warm(endpoint, launcher.engine, experiment.schedule, experiment.tokens)
        phase.replay(endpoint, experiment.schedule, alive=lambda: server.alive)

    def _empty_server(self, phase: Phase) -> tuple[Server, str]:
        """A server whose cache is empty: a fresh process, or one that was reset and said so."""
        caching = phase.arm != "jit"
        keep = self.experiment.config.cache_reset == "endpoint"
        if keep and self._server and self._server.alive and self._caching is caching:
            return self._server, self._reset(self._server)
        self._stack.close()
        self._stack, self._server = ExitStack(), None
        up = self.experiment.launcher.up(phase.arm, phase.folder / "server.log")
        self._server = self._stack.enter_context(up)
        self._caching = caching
        return self._server, "fresh process"

    def _reset(self, server: Server) -> str:
        engine = self.experiment.launcher.engine
        path = engine.reset_path or ""
        status_code, body = self.experiment.launcher.endpoint(server.plan).post(path)
        if not engine.reset_succeeded(status_code, body):
            raise CacheStateError(
                f"POST {path} did not empty the cache: HTTP {status_code} {body[:200]!r}; "
                "use 'cache_reset: restart'"
            )
        return f"POST {path}: {body[:200]}"

    def _tokens_from(self, endpoint: Endpoint) -> None:
        """Without a local tokenizer the server's own counts, once, before anything is measured."""
        if self.experiment.tokens is None:
            self.experiment.tokens = plan.count_tokens(self.experiment.schedule, endpoint.tokenize)
            if self.experiment.tokens is not None:
                plan.write_tokens(self.experiment.tokens, self.run_folder / "tokens.parquet")
