"""The command `aot`. Each command is a few lines; the work is in the other files of scripts/."""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.scripts.cli.ask import ask
from aot.scripts.cli.audit import audit_app
from aot.scripts.cli.compare import compare, gate, history
from aot.scripts.cli.cost import cost
from aot.scripts.cli.doctor import doctor
from aot.scripts.cli.install import engine_app, model_app, router_app
from aot.scripts.cli.lint import lint
from aot.scripts.cli.oracle import oracle
from aot.scripts.cli.prompts import compile_command
from aot.scripts.cli.render import render
from aot.scripts.cli.savings import savings
from aot.scripts.cli.studies import capacity, sweep, tune
from aot.scripts.cli.traffic import arm_named, load, schedule
from aot.scripts.cli.warm import residency, warm
from aot.scripts.run.concluding import conclude, write_report
from aot.scripts.terminal import err, note, say

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Prefix caching for LLM servers, measured honestly.

    [bold]jit[/bold]: prefix cache off. [bold]auto[/bold]: on, starts empty. [bold]aot[/bold]: on,
    every static prefix prefilled and verified before traffic.

    The whole job:  [bold]aot run configs/experiments/demo.yaml[/bold]

    Exit codes: 0 done, 1 something failed, 2 wrong usage or a wrong file, 3 not settled (gate),
    130 interrupted.""",
)
app.add_typer(engine_app, name="engine")
app.add_typer(router_app, name="router")
app.add_typer(model_app, name="model")
app.add_typer(audit_app, name="audit")
app.command("compile")(compile_command)
app.command()(schedule)
app.command()(load)
app.command()(lint)
app.command()(oracle)
app.command()(sweep)
app.command()(capacity)
app.command()(tune)
app.command()(compare)
app.command()(gate)
app.command()(history)
app.command()(cost)
app.command()(savings)
app.command()(ask)
app.command()(warm)
app.command()(residency)
app.command()(render)
app.command()(doctor)

ArmOption = Annotated[str, typer.Option("--arm", help="jit, auto or aot")]
UrlOption = Annotated[str, typer.Option("--url", help="base URL, e.g. http://127.0.0.1:8000")]
ModelOption = Annotated[
    str | None, typer.Option("--model", help="model name; default: the one model served")
]
KeyOption = Annotated[
    str | None,
    typer.Option("--api-key-env", help="environment variable that holds the API key"),
]
TrafficArgument = Annotated[
    Path, typer.Argument(metavar="WORKLOAD|SCHEDULE", help="workload .yaml or schedule .jsonl")
]


class FigureKind(StrEnum):
    """What figures can be exported as besides SVG."""

    PNG = "png"
    PDF = "pdf"


@app.command()
def serve(
    server: Annotated[Path, typer.Argument(help="server .yaml")],
    arm: ArmOption = "aot",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the command and environment, start nothing")
    ] = False,
    log: Annotated[Path | None, typer.Option(help="engine log; default: a temporary file")] = None,
) -> None:
    """Start an engine in the foreground; Ctrl-C stops it and everything it started."""
    from aot.scripts.run import launch

    launcher = launch.prepare(server)
    if dry_run:
        say(launcher.plans(arm_named(arm)).as_shell())
        return
    log = log or Path(tempfile.mkstemp(prefix="aot-serve-", suffix=".log")[1])
    with launcher.up(arm_named(arm), log) as up:
        url, name = up.plan.base_url, up.plan.served_name
        key = (
            ' -H "Authorization: Bearer $' + launcher.config.api_key_env + '"'
            if (launcher.config.api_key_env)
            else ""
        )
        body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Hello"}]})
        say(f"base URL: {url}/v1\nmodel: {name}\nlog: {log}")
        if up.replica_urls:
            say(f"replicas: {' '.join(up.replica_urls)}")
        say(
            f"curl {url}/v1/chat/completions{key} -H 'Content-Type: application/json' -d '{body}'",
        )
        if arm == "aot":
            each = " ".join(f"--url {one}" for one in up.replica_urls or (url,))
            note(f"the cache is empty; compile prefixes into it: aot warm WORKLOAD {each}")
        ended = up.wait()
        code = ended.wait()
    raise ToolkitError(f"a process of {server} ended by itself with exit code {code}: {ended.log}")


@app.command()
def run(
    experiment: Annotated[
        Path | None, typer.Argument(help="experiment .yaml (or --resume RUN_DIR)")
    ] = None,
    runs: Annotated[Path, typer.Option(help="where the run directory is made")] = Path("runs"),
    resume: Annotated[
        Path | None, typer.Option(help="run directory: measure only what is missing in it")
    ] = None,
) -> None:
    """Measure a server under every arm on one schedule, and write the report."""
    from aot.scripts.run import experiment as root

    if (experiment is None) == (resume is None):
        raise UsageError("give either an experiment file or --resume RUN_DIR")
    if resume is not None:
        made, folder = root.reopen(resume), resume
    else:
        assert experiment is not None
        made = root.prepare(experiment)
        folder = root.new_folder(runs, made.config.name)
        root.create(made, folder)
    note(f"run directory: {folder}")
    try:
        root.measure(made, folder)
    except (ToolkitError, SystemExit):
        # What was measured is kept and reported, whatever stopped the rest.
        write_report(folder)
        note(f"not finished; measure the rest with: aot run --resume {folder}")
        raise
    conclude(folder)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(help="run directory")],
    figures: Annotated[
        list[FigureKind] | None,
        typer.Option(help="write the figures in this format, too; can be given again"),
    ] = None,
    pdf: Annotated[
        bool, typer.Option("--pdf", help="print report.html as report.pdf, too (needs Chromium)")
    ] = False,
) -> None:
    """Rebuild report.html, report.md, summary.json, requests.csv and figures/ from a run's
    records."""
    write_report(run_dir, [kind.value for kind in figures or ()])
    if pdf:
        from aot.analysis.pages.pdf import print_page

        print_page(run_dir / "report.html", run_dir / "report.pdf")
        say(f"as PDF: {run_dir / 'report.pdf'}")


def _stop(number: int, _frame: FrameType | None) -> None:
    # Only once: what follows is the clean-up, which a second Ctrl-C must not cut short.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)
    raise SystemExit(128 + number)


def call(arguments: list[str]) -> int:
    """Run one command; its exit code. An error a user can act on is one paragraph, no traceback."""
    try:
        app(arguments)
    except ToolkitError as error:
        err.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return error.exit_code
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def main() -> None:
    """The entry point: signals end the command through its clean-up."""
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) != signal.SIG_IGN:  # nohup asked for it to be ignored
            signal.signal(signum, _stop)
    sys.exit(call(sys.argv[1:]))


if __name__ == "__main__":
    main()
