"""The verb that replays a schedule against a running server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import (
    YAML,
    KeyOption,
    ServedModelOption,
    TrafficArgument,
    UrlOption,
    verbs,
)
from aot.scripts.cli.choices import ArmName

app = verbs()


@app.command()
def load(
    traffic: TrafficArgument,
    url: UrlOption,
    model: ServedModelOption = None,
    arm: Annotated[
        ArmName, typer.Option(help="what the server is set to; aot is warmed first")
    ] = ArmName.AUTO,
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
) -> None:
    """Replay a schedule against a running server, into a run directory.

    Locust sends the requests.

    --arm labels what the server is set to; aot also warms and verifies the static prefixes first.
    Load twice into one directory (-o) with different arms to compare them: aot report DIR.
    Over several machines: aot load SCHEDULE --url URL --master 2 on one, and on two others
    aot load SCHEDULE --url URL --worker MASTER:5557, with the same schedule file (.jsonl).
    """
    from datetime import UTC, datetime

    from aot.scripts.run import load as load_script
    from aot.scripts.run.concluding import conclude
    from aot.scripts.traffic import plan
    from aot.serving.client.endpoint import connect

    if sum((processes > 1, master > 0, worker is not None)) > 1:
        raise UsageError("--processes, --master and --worker: one of them")
    if (master or worker) and traffic.suffix in YAML:
        raise UsageError("all machines need the same schedule file: make it with aot schedule -o")
    head = _address("--worker", worker) if worker else None
    fleet = load_script.Fleet(processes, master, _address("--listen", listen))
    plan.check_traffic(traffic)
    endpoint = connect(url, model, api_key_env)
    if head is not None:
        load_script.work(traffic, endpoint, head)
        return
    made = plan.schedule_of(traffic, endpoint.tokenize)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    folder = output or Path("runs") / f"load-{made.name}-{stamp}"
    load_script.load_into(folder, made, endpoint, arm.value, fleet)
    conclude(folder)


def _address(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    good = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if not host or not good:
        raise UsageError(f"{option} {text}: expected HOST:PORT, e.g. 10.0.0.5:5557")
    return host, int(port)
