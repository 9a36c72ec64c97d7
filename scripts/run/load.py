"""`aot load` and `aot warm`: against a server that is already running.

Loading twice into one directory, with different arms, gives a report that compares them.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aot.analysis.runs.phases import read_tokens
from aot.analysis.runs.run import tokens_file
from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import held
from aot.configs.kernel.salts import Salts
from aot.configs.schema.experiment import Arm
from aot.scripts.prompts.compiling import compile_schedule
from aot.scripts.run import manifest
from aot.scripts.run.phase import Phase, keeps_apart
from aot.scripts.run.target import Up
from aot.scripts.run.wording import worded
from aot.scripts.terminal import status
from aot.scripts.traffic import plan
from aot.serving.cache import warm
from aot.serving.cache.proof import Wanted
from aot.serving.client.detect import detect
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.engine import Engine
from aot.workloads.load import replay
from aot.workloads.load.replay import Fleet as Fleet
from aot.workloads.load.replay import Replay
from aot.workloads.prompts.compiled import Compiled
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Schedule

LOCAL = Fleet()
SERVER = "server"
"""What the one server of such a run is called."""


@contextmanager
def opened(folder: Path) -> Iterator[None]:
    """`folder`, made if need be, for this process alone. UsageError for one that holds other things
    than a run, and while another process measures into it."""
    _make(folder)
    with held(folder):
        yield


def load_into(
    folder: Path, schedule: Schedule, endpoint: Endpoint, arm: Arm, fleet: Fleet = LOCAL
) -> None:
    """Replay `schedule` as the next repeat of `arm` in an opened `folder`, making it a run if it is
    none.

    A repeat that was not finished is measured again. The phase joins the run only when the server
    is ready for it, so that a failed attempt leaves no trace in the comparison.
    """
    engine = detect(endpoint)
    if not (folder / "manifest.json").exists():
        _create(folder, schedule, endpoint, engine)
    elif schedule_file.read(folder / "schedule.jsonl") != schedule:
        raise UsageError(
            f"{folder} holds another schedule; arms can be compared on the same traffic only. "
            "Choose another folder with -o"
        )
    _same_server(folder, engine, endpoint)
    tokens = read_tokens(folder / tokens_file(SERVER))
    plan.check_context(schedule, tokens, endpoint.context_tokens(), endpoint.tokenize)
    repeat = 1
    while (phase := Phase(folder, arm, repeat)).done:
        repeat += 1
    phase.begin()
    salts = None
    version = engine.version(endpoint.page(engine))
    if endpoint.wording.sends_salts and not engine.lacks_salts(
        version, endpoint.wording.dialect.name
    ):
        # What earlier loads and others have left in its cache must not be found by this one.
        salts = Salts(secrets.token_hex(16), "phase") if arm != "jit" else None
        reset = "fresh cache salts on a running server" if salts else "not emptied"
        apart = keeps_apart(schedule, endpoint)
        wanted = Wanted(arm, None, reset, salts is not None, salts, apart)
        phase.prove(endpoint, engine, wanted, endpoint.tokenize)
    if arm == "aot":
        compiled = _compile(schedule, endpoint, engine)
        plan.write_compiled(compiled, folder, SERVER)
        phase.warm(endpoint, engine, schedule, compiled, salts)
    _register(phase, endpoint)
    up = Up(endpoint, None, lambda: True)
    phase.replay(up, engine, schedule, endpoint.tokenize, salts, fleet)


def work(
    schedule: Path, endpoint: Endpoint, master: tuple[str, int], model_folder: str | None
) -> None:
    """Be a worker of the replay whose master is at `master`, until it is over."""
    planned = schedule_file.read(schedule)
    endpoint, users = worded(endpoint, planned.endpoint, model_folder), planned.users
    with tempfile.TemporaryDirectory(prefix="aot-worker-") as folder:
        job = Replay(
            schedule.resolve(), endpoint.base_url, endpoint.model, users, Path(folder),
            api_key_env=endpoint.api_key_env, wording=endpoint.wording, template=endpoint.template,
        )  # fmt: skip
        with status(f"working for {master[0]}:{master[1]}"):
            replay.work(job, master)


def warm_prefixes(endpoint: Endpoint, schedule: Schedule) -> list[warm.Warmed]:
    """Compile the schedule's static prefixes into the cache of a running server."""
    engine = detect(endpoint)
    prefixes = plan.static_prefixes(schedule, _compile(schedule, endpoint, engine))
    with status("compiling static prefixes ahead of time") as line:
        return warm.warm(endpoint, engine, prefixes, line)


def _compile(schedule: Schedule, endpoint: Endpoint, engine: Engine) -> dict[str, Compiled]:
    with status("compiling the static prefixes"):
        return compile_schedule(schedule, endpoint, engine, None)


def _same_server(folder: Path, engine: Engine, endpoint: Endpoint) -> None:
    """UsageError when the run in `folder` is of another engine, of another version of it or of
    another model, or was made by `aot run`."""
    facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    held = facts["servers"].get(SERVER)
    if held is None:
        raise UsageError(f"{folder} was made by 'aot run'; choose another folder with -o")
    if held["engine"] != engine.name:
        raise UsageError(
            f"{folder} holds arms of {held['engine']}, and this server is {engine.name}; arms are "
            "compared on one engine (for several, see 'servers' in an experiment file)"
        )
    if held["model"] != endpoint.model:
        raise UsageError(
            f"{folder} holds arms of the model '{held['model']}', and this server's is "
            f"'{endpoint.model}'; arms are compared on one model. Choose another folder with -o"
        )
    if held.get("requests", {}) != endpoint.wording.shown():
        raise UsageError(
            f"{folder} holds arms whose requests were worded otherwise (endpoint, fields, path); "
            "arms are compared on the same requests. Choose another folder with -o"
        )
    version, then = engine.version(endpoint.page(engine)), held["versions"].get(engine.name)
    if None not in (version, then) and version != then:
        raise UsageError(
            f"{folder} holds arms of {engine.name} {then}, and this server is {version}; arms are "
            "compared on one version. Choose another folder with -o"
        )


def _register(phase: Phase, endpoint: Endpoint) -> None:
    facts = json.loads((phase.run_folder / "manifest.json").read_text(encoding="utf-8"))
    entry = {
        "repeat": phase.repeat,
        "arm": phase.arm,
        "server": SERVER,
        "folder": phase.name,
        "url": endpoint.base_url,
    }
    others = [p for p in facts["phases"] if p["folder"] != phase.name]
    manifest.write(phase.run_folder, {**facts, "phases": [*others, entry]})


def _make(folder: Path) -> None:
    """`folder`, made if need be. UsageError for one that holds other things."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()} - {".lock"}
    except OSError as error:
        raise UsageError(f"-o {folder}: cannot be made: {error.strerror}") from None
    if names and "manifest.json" not in names:
        raise UsageError(f"{folder} exists and is no run directory; choose another with -o")


def _create(folder: Path, schedule: Schedule, endpoint: Endpoint, engine: Engine) -> None:
    digest = schedule_file.write(schedule, folder / "schedule.jsonl")
    with status("counting the tokens of the planned prompts"):
        tokens = plan.count_tokens(schedule, endpoint.tokenize)
    plan.write_tokens(tokens, folder / tokens_file(SERVER))
    version = engine.version(endpoint.page(engine))
    versions = {engine.name: version} if version else {}
    requests = endpoint.wording.shown()
    server = manifest.server(
        engine.name, endpoint.model, remote=True, versions=versions, requests=requests
    )
    manifest.write(folder, manifest.new(schedule.name, {SERVER: server}, digest))
