"""The composition root of `aot run`: server × workload × arms × repeats → one run directory.

Every phase (one arm of one repeat) stands alone: start, prove the cache state, warm, snapshot,
replay, snapshot, stop. done.json is written last, so what was interrupted is known, kept, and
redone by --resume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.runs import phase_name
from configs.errors import CacheStateError, ConfigError, LaunchError, UsageError
from configs.load import load
from configs.schema import Arm, ExperimentConfig, WorkloadConfig
from scripts import launch, manifest, plan
from scripts.launch import Launcher
from scripts.terminal import bar, note, status
from serving import proof, warm
from serving.endpoint import Endpoint
from serving.server import Server
from workloads import replay, scenarios
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
    facts["commands"] = {arm: launcher.plan(arm).as_shell() for arm in experiment.config.arms}
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
            if (folder / "phases" / phase_name(arm, repeat) / "done.json").exists():
                note(f"{phase_name(arm, repeat)}: already measured")
                continue
            session.phase(repeat, arm)


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

    def phase(self, repeat: int, arm: Arm) -> None:
        folder = _fresh_folder(self.run_folder / "phases" / phase_name(arm, repeat))
        server, reset = self._empty_server(arm, folder)
        launcher = self.experiment.launcher
        endpoint = launcher.endpoint(server.plan)
        self._tokens_from(endpoint)
        with status(f"proving the cache state for {arm}"):
            nonce = f"{self.run_folder.name}/{folder.name}"
            found = proof.prove(endpoint, launcher.engine, arm, nonce, reset)
        write_json(folder / "proof.json", found.as_json())
        proof.insist(found)
        if arm == "aot":
            self._warm(endpoint, folder)
        self._replay(endpoint, server, repeat, arm, folder)
        write_json(folder / "done.json", {"ended_utc": datetime.now(UTC).isoformat()})

    def _empty_server(self, arm: Arm, folder: Path) -> tuple[Server, str]:
        """A server whose cache is empty: a fresh process, or one that was reset and said so."""
        keep = self.experiment.config.cache_reset == "endpoint"
        if keep and self._server and self._server.alive and self._caching is (arm != "jit"):
            return self._server, self._reset(self._server)
        self._stop()
        log = folder / "server.log"
        self._server = self._stack.enter_context(self.experiment.launcher.up(arm, log))
        self._caching = arm != "jit"
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

    def _stop(self) -> None:
        self._stack.close()
        self._stack, self._server = ExitStack(), None

    def _tokens_from(self, endpoint: Endpoint) -> None:
        """Without a local tokenizer the server's own counts, once, before anything is measured."""
        if self.experiment.tokens is None:
            self.experiment.tokens = plan.count_tokens(self.experiment.schedule, endpoint.tokenize)
            if self.experiment.tokens is not None:
                plan.write_tokens(self.experiment.tokens, self.run_folder / "tokens.parquet")

    def _warm(self, endpoint: Endpoint, folder: Path) -> None:
        prefixes = plan.static_prefixes(self.experiment.schedule, self.experiment.tokens)
        with status("compiling static prefixes ahead of time") as line:
            warmed = warm.warm(endpoint, self.experiment.launcher.engine, prefixes, line)
        write_json(folder / "warm.json", [w.as_json() for w in warmed])
        warm.insist(warmed)

    def _replay(
        self, endpoint: Endpoint, server: Server, repeat: int, arm: Arm, folder: Path
    ) -> None:
        schedule = self.experiment.schedule
        job = replay.Replay(
            schedule=self.run_folder / "schedule.jsonl",
            base_url=endpoint.base_url,
            model=endpoint.model,
            users=schedule.users,
            folder=folder,
            arm=arm,
            repeat=repeat,
            api_key_env=endpoint.api_key_env,
        )
        snapshot(endpoint, folder / "metrics-before.txt")
        with bar(f"replaying {arm} (repeat {repeat})", len(schedule.requests)) as progress:
            replay.run(job, progress)
        if not server.alive:
            raise LaunchError(f"the engine died during {arm}; its log: {server.log}")
        snapshot(endpoint, folder / "metrics-after.txt")


def snapshot(endpoint: Endpoint, path: Path) -> None:
    """Keep the /metrics page as it is; nothing where the server has none."""
    text = endpoint.metrics_text()
    if text is not None:
        path.write_text(text, encoding="utf-8")


def _fresh_folder(folder: Path) -> Path:
    """An empty phase folder; what an interrupted attempt left is kept beside it."""
    if folder.exists():
        attempt = 1
        while (aside := folder.with_name(f"{folder.name}.interrupted-{attempt}")).exists():
            attempt += 1
        folder.rename(aside)
    folder.mkdir(parents=True)
    return folder


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
