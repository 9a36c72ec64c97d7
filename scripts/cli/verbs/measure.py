"""The verbs that measure: an experiment, the demo with all that it needs, a running server."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.kernel.files import held
from aot.scripts.cli.arguments import (
    YAML,
    ExperimentArgument,
    KeyOption,
    LogServerOption,
    MeasuredLogOption,
    ServedModelOption,
    TokenizerOption,
    TrafficArgument,
    UrlOption,
    verbs,
)
from aot.scripts.cli.choices import LoadedArm
from aot.scripts.cli.wording_options import takes_wording
from aot.scripts.terminal import note, say, status

if TYPE_CHECKING:
    from aot.configs.dialects.wording import Wording

app = verbs()


@app.command()
def demo(
    experiment: Annotated[
        Path,
        typer.Argument(
            help="demo, demo-sglang, demo-both, or an experiment of one's own on their servers"
        ),
    ] = Path("demo"),
    runs: Annotated[Path, typer.Option(help="where the run directory is made")] = Path("runs"),
) -> None:
    """Install what the demo needs, measure it, and write its report.

    A real engine and real weights (SmolLM2-135M), on this machine's CPU; about 5 GB of disk under
    AOT_HOME. What is there already is not installed again.
    """
    from aot.configs.loading.load import load
    from aot.configs.loading.presets import file_of, model_recipe
    from aot.configs.schema.experiment import ExperimentConfig
    from aot.scripts.server_files import launched
    from aot.serving.local import installer, models

    path = file_of("experiment", experiment)
    files = load(path, ExperimentConfig).server_files
    servers = [launched(file_of("server", file, path.parent), "install") for file in files]
    for server in servers:
        model_recipe(server.model)  # before gigabytes are installed for what is not to be had
    for engine in dict.fromkeys(server.recipe for server in servers):
        with status(f"engine {engine}") as line:
            say(f"{engine}: installed in {installer.install(engine, line).folder}")
    for model in dict.fromkeys(server.model for server in servers):
        with status(f"model {model}") as line:
            say(f"{model}: {models.fetch(model, None, line)}")
    run(path, runs)


@app.command()
def run(
    experiment: ExperimentArgument = None,
    runs: Annotated[Path, typer.Option(help="where the run directory is made")] = Path("runs"),
    resume: Annotated[
        Path | None, typer.Option(help="run directory: measure only what is missing in it")
    ] = None,
    log: MeasuredLogOption = None,
    server: LogServerOption = None,
    url: Annotated[
        str | None, typer.Option(help="of --log: base URL of a server that runs already")
    ] = None,
    api_key_env: KeyOption = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="of --log: of every arm")] = None,
) -> None:
    """Measure a server under every arm on one schedule, and report it.

    With --log the experiment is written for you, beside the run: one's own requests under jit, auto
    and aot and, where lint finds flaws that can be mended, under mended: the same requests without
    them.
    """
    from aot.scripts.run import experiment as root
    from aot.scripts.run.concluding import conclude, write_report

    if sum(given is not None for given in (experiment, resume, log)) != 1:
        raise UsageError("give either an experiment file, or --log LOG, or --resume RUN_DIR")
    if log is None and (server or url or repeats):
        raise UsageError("--server, --url and --repeats go with --log")
    if log is not None:
        from aot.scripts.traffic import own_experiment

        with status(f"looking for flaws in {log}"):
            experiment = own_experiment.write(log, server, url, api_key_env, repeats, runs)
        note(f"{experiment}: the experiment; it can be edited, and run again")
    if resume is not None:
        prepared_experiment, folder = root.reopen(resume), resume
    else:
        assert experiment is not None
        prepared_experiment = root.prepare(experiment)
        folder = root.new_folder(runs, prepared_experiment.config.name)
        root.create(prepared_experiment, folder)
    note(f"run directory: {folder}")
    with held(folder):
        try:
            root.measure(prepared_experiment, folder)
        except (ToolkitError, SystemExit, OSError):
            # What was measured is kept and reported, whatever stopped the rest.
            note(f"not finished; measure the rest with: aot run --resume {folder}")
            with suppress(ToolkitError, OSError):  # the disk may be full
                write_report(folder)
            raise
        conclude(folder)


@app.command()
@takes_wording
def load(
    traffic: TrafficArgument,
    url: UrlOption,
    model: ServedModelOption = None,
    arm: Annotated[
        LoadedArm, typer.Option(help="what the server is set to; aot is warmed first")
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="run directory; one that exists gets another arm"),
    ] = None,
    api_key_env: KeyOption = None,
    processes: Annotated[
        int, typer.Option(min=1, help="load processes here, sharing the schedule by sessions")
    ] = 1,
    master: Annotated[
        int, typer.Option(min=0, help="send nothing here: be the master of so many workers")
    ] = 0,
    listen: Annotated[
        str, typer.Option(help="HOST:PORT where --master waits for its workers")
    ] = "0.0.0.0:5557",
    worker: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="be a worker of the master there; records go to it"),
    ] = None,
    tokenizer: TokenizerOption = None,
    *,
    wording: Wording,
) -> None:
    """Replay a schedule against a running server, into a run directory.

    --arm labels what the server is set to; aot also warms and verifies the static prefixes first.
    Load twice into one directory (-o) with different arms to compare them: aot report DIR.
    Over several machines: aot load SCHEDULE --url URL --master 2 on one, and on two others
    aot load SCHEDULE --url URL --worker MASTER:5557, with the same schedule file (.jsonl).
    """
    from datetime import UTC, datetime

    from aot.scripts.connecting import connect
    from aot.scripts.run import load as load_script
    from aot.scripts.run.concluding import conclude
    from aot.scripts.run.wording import worded
    from aot.scripts.traffic import plan
    from aot.serving.local import models

    if sum((processes > 1, master > 0, worker is not None)) > 1:
        raise UsageError("--processes, --master and --worker: one of them")
    if (master or worker) and traffic.suffix in YAML:
        raise UsageError("all machines need the same schedule file: make it with aot schedule -o")
    head = _address("--worker", worker) if worker else None
    fleet = load_script.Fleet(processes, master, _address("--listen", listen))
    kind = plan.endpoint_of(traffic)
    endpoint = connect(url, model, api_key_env, wording)
    folder_of_model = models.resolve(tokenizer, Path()) if tokenizer else None
    if head is not None:
        load_script.work(traffic, endpoint, head, folder_of_model)
        return
    endpoint = worded(endpoint, kind, folder_of_model)
    schedule = plan.schedule_of(traffic, endpoint.tokenize)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = output or Path("runs") / f"load-{schedule.name}-{stamp}"
    with load_script.opened(folder):
        load_script.load_into(folder, schedule, endpoint, arm, fleet)
        conclude(folder)


def _address(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    good = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if not host or not good:
        raise UsageError(f"{option} {text}: expected HOST:PORT, e.g. 10.0.0.5:5557")
    return host, int(port)
