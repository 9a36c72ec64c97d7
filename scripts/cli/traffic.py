"""The verbs for traffic: draw a schedule, and replay it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.experiment import ARMS, Arm
from aot.scripts.terminal import say, status

if TYPE_CHECKING:
    from aot.workloads.plan.lexicon import Encode
    from aot.workloads.requests.request import Schedule
    from aot.workloads.traces.to_schedule import Options


def arm_named(name: str) -> Arm:
    """The arm; UsageError with the choices."""
    if name not in ARMS:
        raise UsageError(f"--arm: '{name}' is no arm; choose {', '.join(ARMS)}")
    return name


def schedule(
    what: Annotated[
        Path, typer.Argument(metavar="WORKLOAD|TRACE", help="workload .yaml, or a trace file")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="schedule file to write")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="model folder or recipe: texts of exact length in its tokens"),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="of a trace: mooncake, bailian, coding, ragpulse, azure, burstgpt, sharegpt, "
            "openai; default: by the file",
        ),
    ] = None,
    scale: Annotated[float, typer.Option(help="of a trace: all lengths times this")] = 1.0,
    speed: Annotated[float, typer.Option(help="of a trace: this many times as fast")] = 1.0,
    window: Annotated[
        str | None, typer.Option(help="of a trace: FROM:TO in its seconds, e.g. 0:600")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="of a trace: so many requests")] = None,
    rate: Annotated[
        float | None, typer.Option(help="Poisson arrivals a second instead of the trace's times")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="of a trace: outputs of at most this")
    ] = None,
    sort: Annotated[
        bool, typer.Option("--sort", help="of a trace: put its requests in order of time")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="of a trace: count malformed lines and go on")
    ] = False,
) -> None:
    """Draw the request schedule of a workload or a trace: the same bytes on any machine."""
    from aot.scripts.traffic import plan
    from aot.workloads.requests import schedule as schedule_file

    if what.suffix in (".yaml", ".yml"):
        given = (format_name, window, limit, rate, max_tokens, sort or None, skip_bad or None)
        if any(g is not None for g in given) or (scale, speed) != (1.0, 1.0):
            raise UsageError(f"{what} is a workload: what is for traces goes into the file there")
        with status(f"drawing {what}"):
            made = plan.schedule_of(what, _encoder(model))
    else:
        options = _options(scale, speed, window, limit, rate, max_tokens, sort)
        with status(f"reading {what}"):
            made = _of_trace(what, format_name, model, options, skip_bad)
    digest = schedule_file.write(made, output)
    last_s = made.requests[-1].at_s
    say(
        f"{output}: {len(made.requests)} requests over {last_s:.1f} s, "
        f"{len(made.prefixes)} static prefixes, sha256 {digest}"
    )


def _encoder(model: str | None) -> Encode | None:
    from aot.scripts.prompts.compiling import tokenizer_of

    return tokenizer_of(model).encode if model else None


def _options(
    scale: float,
    speed: float,
    window: str | None,
    limit: int | None,
    rate: float | None,
    max_tokens: int | None,
    sort: bool,
) -> Options:
    from aot.configs.schema.draws import PoissonArrivals
    from aot.workloads.traces.to_schedule import Options

    for name, number in (("--scale", scale), ("--speed", speed), ("--rate", rate)):
        if number is not None and not 0 < number < float("inf"):
            raise UsageError(f"{name} {number}: expected a number above 0")
    arrivals = PoissonArrivals(kind="poisson", rate_per_s=rate) if rate else None
    return Options(scale, speed, _window(window), limit, sort, arrivals, max_tokens)


def _window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, _, high = text.partition(":")
    try:
        found = float(low or 0), float(high or "inf")
    except ValueError:
        raise UsageError(f"--window {text}: expected FROM:TO in seconds, e.g. 0:600") from None
    if not 0 <= found[0] < found[1]:
        raise UsageError(f"--window {text}: FROM must be 0 or more and below TO")
    return found


def _of_trace(
    path: Path, format_name: str | None, model: str | None, options: Options, skip_bad: bool
) -> Schedule:
    from aot.scripts.traffic import oracle
    from aot.workloads.plan.lexicon import Lexicon
    from aot.workloads.traces import to_schedule as trace_schedule

    encode = _encoder(model)
    if encode is None:
        raise UsageError(
            "a trace has lengths in tokens: name the model whose tokenizer counts: --model PATH"
        )
    source = oracle.source(path, format_name, None, skip_bad)
    if source.format is oracle.SCHEDULE:
        raise UsageError(f"{path}: is a schedule already")
    made = trace_schedule.schedule(
        source.requests(), source.format, str(path), options, Lexicon(encode)
    )
    source.say_skipped()
    return made


def load(
    traffic: Annotated[
        Path, typer.Argument(metavar="WORKLOAD|SCHEDULE", help="workload .yaml or schedule .jsonl")
    ],
    url: Annotated[str, typer.Option("--url", help="base URL, e.g. http://127.0.0.1:8000")],
    model: Annotated[
        str | None, typer.Option("--model", help="model name; default: the one model served")
    ] = None,
    arm: Annotated[str, typer.Option("--arm", help="jit, auto or aot")] = "auto",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="run directory; one that exists gets another arm"),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option("--api-key-env", help="environment variable that holds the API key"),
    ] = None,
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
    """Replay a schedule on Locust against a running server, into a run directory.

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

    label = arm_named(arm)
    if sum((processes > 1, master > 0, worker is not None)) > 1:
        raise UsageError("--processes, --master and --worker: one of them")
    if (master or worker) and traffic.suffix in (".yaml", ".yml"):
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
    load_script.load_into(folder, made, endpoint, label, fleet)
    conclude(folder)


def _address(option: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    good = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if not host or not good:
        raise UsageError(f"{option} {text}: expected HOST:PORT, e.g. 10.0.0.5:5557")
    return host, int(port)
