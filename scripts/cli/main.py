"""The command `aot`: its verbs in groups, each imported when it is called.

Help and completion import no verb, so a verb's line stands here, and again as the first line of its
own help (a test holds them equal).
"""

from __future__ import annotations

import errno
import re
import sys
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from aot.configs.kernel.errors import ToolkitError
from aot.configs.kernel.files import FULL
from aot.scripts.terminal import err

GROUPS: dict[str, dict[str, tuple[str, str]]] = {
    "Ask": {
        "check": ("answers.check", "Is caching working, what breaks it, what would it gain?"),
        "explain": ("answers.check", "Why one request found no more in the cache than it did."),
        "watch": (
            "answers.watch",
            "Show live what a cache finds, and where prompts part.",
        ),
    },
    "Measure": {
        "demo": ("measure", "Install what the demo needs, measure it, and write its report."),
        "run": ("measure", "Measure a server under every arm on one schedule, and report it."),
        "load": ("measure", "Replay a schedule against a running server, into a run directory."),
        "sweep": ("studies", "Measure an experiment at several values of one setting."),
        "capacity": ("studies", "Find the highest rate at which each arm keeps an SLO."),
        "tune": ("studies", "Try a server's cache settings; recommend what is shown to help."),
        "calibrate": ("studies", "Measure how starts of a server differ; verdicts allow for it."),
    },
    "Prompts": {
        "lint": ("lint", "Find what breaks prefix reuse: where, what it costs, the remedy."),
        "compile": ("compile", "Find the static prefix of a prompt, or those of a log."),
        "warm": ("warm", "Prefill static prefixes on a running server; verify that they hit."),
        "ask": ("prices", "Ask an API with a compiled prompt; show what its cache did."),
        "savings": ("prices", "What compiling saves in a day: tokens, money, seconds."),
    },
    "Traffic": {
        "schedule": ("traffic", "Draw the request schedule of a workload or a trace."),
        "capture": ("traffic", "Write the log of a server's traffic, as a proxy before it."),
        "oracle": ("oracle", "What a prefix cache can find on this traffic, without an engine."),
    },
    "Serve and deploy": {
        "serve": ("deploy", "Start an engine in the foreground; Ctrl-C stops all of it."),
        "rollout": (
            "deploy",
            "Start the replicas of an 'aot serve' anew, one by one, warmed before traffic.",
        ),
        "render": ("deploy", "A server file for Compose, Kubernetes, Helm, Prometheus, Grafana."),
        "audit": ("deploy", "What a running server gives away."),
    },
    "Reports": {
        "report": ("reports", "Rebuild the report of a run from its records."),
        "compare": ("reports", "Runs side by side, and over the same requests."),
        "gate": ("reports", "Has a run become worse than its baseline? For CI."),
        "history": ("reports", "All runs of a folder, in the order of time."),
        "cost": ("prices", "What a million requests like those of a run cost, in every arm."),
    },
    "This machine": {
        "doctor": ("machine", "What this machine can run, what is missing, and what mends it."),
        "engine": ("machine", "Engine environments (.engines/NAME)."),
        "router": ("machine", "Routers for replicas (.engines/NAME)."),
        "store": ("store", "KV stores beside an engine, and what is on their disks."),
        "model": ("machine", "Model weights (.models/NAME)."),
        "configs": ("configs", "The shipped servers, workloads, experiments and prompts."),
        "init": ("configs", "Write a server, workload, experiment and prompt to start from."),
    },
}
"""By group and name: the module under verbs/, and the verb's line."""
VERBS = {name: entry for verbs in GROUPS.values() for name, entry in verbs.items()}


class Verbs(TyperGroup):
    """Knows the names of all verbs, and imports the one that is called."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {name: TyperCommand(name, help=line) for name, (_, line) in VERBS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The verb that is called, really."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and verb(str(name)), rest

    def invoke(self, ctx: Any) -> Any:
        """The verb that is called; what is wrong with a choice is said with the nearest one."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _nearest(error.message.removeprefix("Value error, "))
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """The verbs by group, the first job first."""
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:<9}", line) for name, (_, line) in verbs.items()])


def _nearest(message: str) -> str:
    """`'jti' is not one of 'jit', 'auto'.`, and which of them was meant."""
    if (told := re.fullmatch(r"'(.*)' is not one of (.*)\.", message)) is None:
        return message
    near = get_close_matches(told[1], re.findall(r"'([^']*)'", told[2]), n=1)
    return f"{message} Did you mean '{near[0]}'?" if near else message


def verb(name: str) -> Any:
    """The command of a verb."""
    module = import_module(f"aot.scripts.cli.verbs.{VERBS[name][0]}")
    return typer.main.get_group(module.app).commands[name]


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"aot {version('aot-prefix-caching')}\n")
        raise typer.Exit


@app.callback()
def aot(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Prefix caching for LLM servers, measured honestly.

    Three arms: jit (prefix cache off), auto (on, starts empty), aot (on, every static prefix
    prefilled and verified before traffic).

    The whole job, on this machine's CPU:  aot demo

    Files are given by path, or by the name of a shipped one:  aot run demo

    Exit codes: 0 done, 1 something failed (of gate: a regression, of audit: a leak, and nothing
    else), 2 wrong usage or a wrong file, 3 not settled, 70 a fault of this tool, 128 + signal when
    stopped.
    """


READER_GONE = 128 + 13
"""As for a program that SIGPIPE ends: `aot ... | head` is no verdict and no failure."""
VERDICTS = ("gate", "audit")
OUTSIDE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM,
           errno.EMFILE, errno.ENFILE)  # fmt: skip
"""What the machine or its rights are short of: nothing that a traceback would help with."""


def call(arguments: list[str]) -> int:
    """Run one command; its exit code. An error a user can act on is one paragraph, no traceback."""
    # Where an exit code of 1 is a verdict, it is nothing else.
    failed = 2 if arguments[:1] and arguments[0] in VERDICTS else 1
    try:
        app(arguments, prog_name="aot")
    except ToolkitError as error:
        err().print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        return failed if error.exit_code == 1 else error.exit_code
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            return READER_GONE
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        err().print(str(end.code), markup=False, soft_wrap=True)  # as Python itself would
        return failed
    except OSError as error:
        if error.errno not in OUTSIDE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        kept = ". What was there is kept; free some space and go on from it"
        words = f"{where}{error.strerror}{kept if error.errno in FULL else ''}"
        err().print(f"error: {words}", style="red", markup=False, soft_wrap=True)
        return failed
    return 0
