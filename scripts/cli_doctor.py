"""`aot doctor`: this machine, or a server file against a card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from configs.errors import UsageError
from scripts.terminal import out, say

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
        int, typer.Option(min=1, help="or static prefixes of so many tokens")
    ] = 4096,
    running: Annotated[int, typer.Option(min=0, help="requests running at once")] = 8,
    request_tokens: Annotated[
        int, typer.Option(min=0, help="tokens of a request beside its static prefix, and answer")
    ] = 1024,
    json_: Annotated[bool, typer.Option("--json", help="print all of it as JSON")] = False,
) -> None:
    """What this machine can run, what is missing, and the command that mends it.

    With --server: the memory arithmetic of a server file, before there is a GPU to try it on:
    weights, reserve, KV cache per token; whether it fits (exit code 0, else 1), and how many static
    prefixes stay resident. Example: aot doctor --server configs/servers/qwen3-8b-l4.yaml
    """
    if server is None:
        if card or workload or json_:
            raise UsageError("--card, --workload and --json go with --server FILE")
        _machine()
        return
    from scripts.sizing import size
    from scripts.sizing_table import Asked, as_json, asked, rows

    sizing = size(server, card)
    traffic = asked(server, sizing, workload, Asked(running, request_tokens, prefix_tokens))
    if json_:
        say(json.dumps(as_json(sizing, traffic), indent=1))
    else:
        table = Table("what", "how much", "why", box=None, title=None)
        table.columns[1].justify = "right"
        for what, much, why in rows(sizing, traffic):
            table.add_row(what, much, why)
        say(f"{server}: {sizing.server.model} on {sizing.server.engine}")
        out.print(table, markup=False)
        for words in sizing.notes:
            say(f"note: {words}")
        say(sizing.problem or "it fits")
        for words in sizing.remedies:
            say(f"  mended by  {words}")
    if sizing.problem:
        raise typer.Exit(DOES_NOT_FIT)


def _machine() -> None:
    from scripts.doctor import examine

    table = Table("", "what", "remedy", box=None)
    for line in examine():
        table.add_row(SIGNS[line.level], line.what, line.remedy)
    out.print(table)
