"""The verbs that draw a schedule, and that write the log of a server's traffic."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import YAML, TraceArgument, verbs
from aot.scripts.cli.choices import TraceFormat
from aot.scripts.terminal import note, say, status

if TYPE_CHECKING:
    from aot.workloads.plan.lexicon import Encode
    from aot.workloads.requests.request import Schedule
    from aot.workloads.traces.to_schedule import Options


app = verbs()


@app.command()
def schedule(
    what: TraceArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="schedule file to write")],
    model: Annotated[
        str | None,
        typer.Option("--model", help="model folder or recipe: texts of exact length in its tokens"),
    ] = None,
    format_name: Annotated[
        TraceFormat | None, typer.Option("--format", help="of a trace; default: by the file")
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
    fix_output: Annotated[
        bool,
        typer.Option("--fix-output", help="of a log: answers of the recorded lengths, to the end"),
    ] = False,
    learn: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.95,
            help="of a log: find static parts in this share of it, and replay the rest; 0: find "
            "them in what is replayed",
        ),
    ] = 0.0,
    sort: Annotated[
        bool, typer.Option("--sort", help="of a trace: put its requests in order of time")
    ] = False,
    spread: Annotated[
        bool,
        typer.Option("--spread", help="of a trace with rounded times: spread them over the step"),
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="of a trace: count malformed lines and go on")
    ] = False,
) -> None:
    """Draw the request schedule of a workload or a trace.

    The same seed gives the same bytes on any machine.
    """
    from aot.scripts.traffic import plan
    from aot.workloads.requests import schedule as schedule_file

    if what.suffix in YAML:
        given = (
            format_name, window, limit, rate, max_tokens,
            sort or None, spread or None, skip_bad or None,
        )  # fmt: skip
        if any(g is not None for g in given) or (scale, speed) != (1.0, 1.0):
            raise UsageError(f"{what} is a workload: what is for traces goes into the file there")
        with status(f"drawing {what}"):
            drawn_schedule = plan.schedule_of(what, _encoder(model))
    else:
        options = _options(scale, speed, window, limit, rate, max_tokens, sort)
        options = replace(options, fix_output=fix_output, learn=learn, spread=spread)
        with status(f"reading {what}"):
            drawn_schedule = _of_trace(what, format_name, model, options, skip_bad)
    digest = schedule_file.write(drawn_schedule, output)
    for what_changed, count in drawn_schedule.changes.items():
        note(f"{count} requests: {what_changed}")
    last_s = drawn_schedule.requests[-1].at_s
    say(
        f"{output}: {len(drawn_schedule.requests)} requests over {last_s:.1f} s, "
        f"{len(drawn_schedule.prefixes)} static prefixes, sha256 {digest}"
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
        bounds = float(low or 0), float(high or "inf")
    except ValueError:
        raise UsageError(f"--window {text}: expected FROM:TO in seconds, e.g. 0:600") from None
    if not 0 <= bounds[0] < bounds[1]:
        raise UsageError(f"--window {text}: FROM must be 0 or more and below TO")
    return bounds


def _of_trace(
    path: Path, format_name: str | None, model: str | None, options: Options, skip_bad: bool
) -> Schedule:
    from aot.scripts.traffic import oracle
    from aot.workloads.plan.lexicon import Lexicon
    from aot.workloads.traces import to_schedule as trace_schedule

    encode = _encoder(model)
    source = oracle.source(path, format_name, None, skip_bad)
    if source.format is oracle.SCHEDULE:
        raise UsageError(f"{path}: is a schedule already")
    drawn_schedule = trace_schedule.schedule(
        source.logged(),
        source.format,
        str(path),
        options,
        Lexicon(encode) if encode else None,
    )
    source.say_skipped()
    return drawn_schedule


@app.command()
def capture(
    to: Annotated[str, typer.Option("--to", help="base URL of the server, e.g. http://gpu:8000")],
    output: Annotated[Path, typer.Option("-o", "--output", help="log to write, or to go on with")],
    listen: Annotated[
        str, typer.Option(help="HOST:PORT where clients connect; port 0: a free one")
    ] = "127.0.0.1:8800",
    private: Annotated[
        bool,
        typer.Option(
            "--private", help="write no text: keyed hashes of blocks, and lengths (with --model)"
        ),
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="with --private: whose tokenizer makes blocks")
    ] = None,
    block_tokens: Annotated[
        int, typer.Option("--block-tokens", min=1, help="with --private: tokens of a block")
    ] = 16,
    key_file: Annotated[
        Path | None,
        typer.Option(help="with --private: the key of the hashes; made where it is not there"),
    ] = None,
    sample: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="share of the sessions that are logged")
    ] = 1.0,
    max_mib: Annotated[
        float | None, typer.Option(min=0.001, help="size at which the log is put aside as LOG.1")
    ] = None,
    keep: Annotated[int, typer.Option(min=0, help="how many that were put aside stay")] = 4,
) -> None:
    """Write the log of a server's traffic, as a proxy before it.

    Ctrl-C ends it. Clients use its address instead of the server's. Times, bodies, usage and how
    answers ended are written, a line a request; headers never. What reads logs reads it: aot run,
    schedule, oracle, lint.
    """
    from aot.scripts.traffic import capturing
    from aot.workloads.capture.log import CaptureLog
    from aot.workloads.capture.passed import Lines

    if private and model is None:
        raise UsageError("--private: name the model whose tokenizer makes blocks: --model PATH")
    if not private and (model or key_file):
        raise UsageError("--model and --key-file go with --private")
    key = (key_file or output.with_name(f"{output.name}.key")) if private else None
    blocks = capturing.blocks(key, model, block_tokens) if key and model else None
    log = CaptureLog(output, int(max_mib * 2**20) if max_mib else None, keep, note)
    made = capturing.prepare(to, log, Lines(sample, blocks), note)
    capturing.serve(made, listen, lambda url: say(f"{url} → {to}, log: {output}"))
    counts = made.writer.counts
    written = f"{_known(counts.written)} of {counts.requests} requests in {output}"
    lost = f", {counts.lost} lost" if counts.lost else ""
    left = f", {counts.left_out} of other sessions" if counts.left_out else ""
    broken = f", {counts.broken} of them not read" if counts.broken else ""
    say(f"{written}{broken}{left}{lost}")


def _known(count: int | None) -> str:
    return "an unknown number" if count is None else str(count)
