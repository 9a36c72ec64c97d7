"""`aot doctor`: this machine, or a server file against a card."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from aot.configs.kernel.errors import UsageError
from aot.scripts.terminal import out, say

if TYPE_CHECKING:
    from aot.scripts.doctor.sizing import Sizing
    from aot.scripts.doctor.sizing_table import Row

DOES_NOT_FIT = 1
SIGNS = {
    "ok": "[green]ok[/green]",
    "missing": "[red]missing[/red]",
    "note": "[yellow]note[/yellow]",
}


def doctor(
    server: Annotated[
        Path | None, typer.Option(help="server .yaml: does its model fit, and what stays cached")
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(
            help="compute for this GPU (a name in configs/cards/); default: the one that is here, "
            "else the file's key 'card'"
        ),
    ] = None,
    workload: Annotated[
        Path | None,
        typer.Option(help="take the static prefixes of this workload or schedule, counted"),
    ] = None,
    prefix_tokens: Annotated[
        int | None, typer.Option(min=1, help="or static prefixes of so many tokens (4096)")
    ] = None,
    running: Annotated[
        int | None,
        typer.Option(min=0, help="requests running at once; default: the workload's users, or 8"),
    ] = None,
    request_tokens: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="tokens of a request beside its static prefix, answer included; default: the "
            "workload's longest, or 1024",
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="print all of it as JSON")] = False,
) -> None:
    """What this machine can run, what is missing, and the command that mends it.

    With --server: the memory arithmetic of a server file, before there is a GPU to try it on:
    weights, reserve, KV cache per token, whether it fits, and how many static prefixes stay
    resident. Exit code 0: it fits, 1: it does not, 3: the model is not known here and its hub was
    not reached. Example: aot doctor --server configs/servers/qwen3-8b-l4.yaml
    """
    if server is None:
        if json_ or any(
            x is not None for x in (card, workload, prefix_tokens, running, request_tokens)
        ):
            raise UsageError("all options of the doctor go with --server FILE")
        _machine()
        return
    from aot.scripts.doctor.sizing import size
    from aot.scripts.doctor.sizing_table import PREFIX_TOKENS, Asked, as_json, rows, traffic_of

    sizing = size(server, card)
    asked = Asked(running, request_tokens, prefix_tokens or PREFIX_TOKENS)
    traffic = traffic_of(server, sizing, workload, asked)
    if json_:
        say(json.dumps(as_json(sizing, traffic), indent=1))
    else:
        _show(sizing, rows(sizing, traffic))
    if sizing.problem:
        raise typer.Exit(DOES_NOT_FIT)


def _show(sizing: Sizing, rows: Iterable[Row]) -> None:
    table = Table("what", "how much", "why", box=None)
    table.columns[1].justify = "right"
    for row in rows:
        table.add_row(*row)
    say(f"{sizing.path}: {sizing.server.model} on {sizing.server.engine}")
    out.print(table, markup=False)
    for words in sizing.notes:
        say(f"note: {words}")
    say(sizing.problem or "it fits")
    for words in sizing.remedies:
        say(f"  mended by  {words}")


def _machine() -> None:
    from aot.scripts.doctor.this_machine import examine

    table = Table("", "what", "remedy", box=None)
    for line in examine():
        table.add_row(SIGNS[line.level], line.what, line.remedy)
    out.print(table)
