"""The verbs that answer: is caching working, what breaks it, what would it gain; and why a request
missed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import (
    JsonOption,
    KeyOption,
    LogArgument,
    LogOption,
    OracleServerOption,
    ServedModelOption,
    TokenizerOption,
    verbs,
)
from aot.scripts.cli.choices import Provider
from aot.scripts.cli.wording_options import takes_wording
from aot.scripts.terminal import note, say, say_json, status

if TYPE_CHECKING:
    from aot.configs.dialects.wording import Wording

app = verbs()


@app.command()
@takes_wording
def check(
    log: LogArgument = None,
    url: Annotated[
        str | None, typer.Option("--url", help="base URL of the server that the log is of")
    ] = None,
    server: OracleServerOption = None,
    model: ServedModelOption = None,
    api_key_env: KeyOption = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="how long the server's counters are watched")
    ] = 10.0,
    no_requests: Annotated[
        bool,
        typer.Option("--no-requests", help="send the server nothing; what needs it stays open"),
    ] = False,
    price: Annotated[
        float | None,
        typer.Option(min=0, help="what a million prompt tokens cost that are not found"),
    ] = None,
    provider: Annotated[
        Provider | None, typer.Option(help="or take the shipped price table of this one")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--page", help="write the answer as an HTML page, too")
    ] = None,
    as_json: JsonOption = False,
    *,
    wording: Wording,
) -> None:
    """Is caching working, what breaks it, what would it gain?

    From a LOG of requests: what is found now, what could be, what breaks it, what a cache must hold
    and which beginnings are worth compiling. From a --url: what the server says and shows (one
    small prompt is sent six times), and what is wrong with it. From both: how far the server is
    from what its traffic allows. --server FILE: the server that the log would go to.
    """
    if log is None and url is None:
        raise UsageError(
            "a log, --url, or both: 'aot check LOG.jsonl', 'aot check --url http://gpu:8000'; no "
            "log yet: 'aot capture'"
        )
    from aot.scripts.checkup import checking, shown
    from aot.scripts.prompts import linting

    if provider and price is None:
        price, _ = linting.prices(provider, None)
    with status("looking") as line:
        where = checking.Where(url, server, model, api_key_env, wording)
        made = checking.answer(log, where, seconds, not no_requests, price, line)
    if page:
        checking.write_page(made, page)
        note(f"{page}: the same as a page")
    if as_json:
        say_json(made.as_json())
    else:
        shown.show(made)


@app.command()
@takes_wording
def explain(
    request: Annotated[
        str,
        typer.Argument(metavar="REQUEST", help="number of its line in the log, or its id"),
    ],
    log: LogOption,
    url: Annotated[
        str | None, typer.Option("--url", help="base URL of the server that the log is of")
    ] = None,
    server: OracleServerOption = None,
    tokenizer: TokenizerOption = None,
    block_tokens: Annotated[
        int | None, typer.Option(min=1, help="default: the server's own, or 16")
    ] = None,
    capacity_tokens: Annotated[
        int | None, typer.Option(min=1, help="what its cache holds; default: as the server says")
    ] = None,
    lifetime: Annotated[
        float | None,
        typer.Option(min=0, help="seconds for which a hosted API keeps what is not used"),
    ] = None,
    model: ServedModelOption = None,
    api_key_env: KeyOption = None,
    as_json: JsonOption = False,
    *,
    wording: Wording,
) -> None:
    """Why one request found no more in the cache than it did.

    The earlier request that has most of it, the first token and place at which the two part, and
    the cause: an edit, a salt, an adapter, below a block, a first touch, in flight together,
    evicted, expired, another replica, the rule of a model with windows. What a log alone cannot
    tell is told with the server that it is of: --url or --server.
    """
    from aot.scripts.checkup import checking, explaining
    from aot.scripts.checkup.explain import lines

    with status(f"looking for request {request} in {log}"):
        where = checking.Where(url, server, model, api_key_env, wording)
        made = explaining.explained(
            log, request, where, tokenizer, block_tokens, capacity_tokens, lifetime
        )
    if as_json:
        say_json(made.as_json())
        return
    for line in lines(made):
        say(line)
