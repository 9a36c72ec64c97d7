"""The verb that says what a compiled prompt is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from configs.errors import UsageError
from configs.load import load, recipe_names
from configs.places import CONFIGS
from configs.pricing import ModelPrice, PriceTable
from scripts.terminal import say


def savings(
    what: Annotated[Path, typer.Argument(metavar="COMPILED", help="compiled prompt")],
    requests_per_day: Annotated[int, typer.Option(min=1, help="requests with this prompt a day")],
    provider: Annotated[
        str | None, typer.Option(help="price table of configs/pricing/: openai, anthropic, gemini")
    ] = None,
    price_model: Annotated[
        str | None, typer.Option("--model", help="model in the price table; default: the table's")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="measured run directory, for seconds of own hardware"),
    ] = None,
) -> None:
    """What compiling ahead of time saves in a day: tokens, money, seconds; and whether to do it."""
    from analysis import savings as sums
    from workloads import compiled

    made = compiled.read(what)
    tokens = sums.Tokens(
        requests_per_day, made.static_tokens, made.rounding_tokens, made.dynamic_tokens.median
    )
    say(
        f"{made.id}: {tokens.static:,} static tokens × {requests_per_day:,} requests a day = "
        f"{tokens.static_per_day:,} tokens a day"
    )
    say(
        f"on blocks of {made.block_tokens}: less {tokens.rounding} tokens of rounding a request = "
        f"{tokens.saved_per_day:,} tokens a day not processed"
    )
    paid, least = None, made.block_tokens
    if provider:
        table, name, price = _price(provider, price_model)
        ttl_s = price.ttl_s or table.ttl_s
        least = price.minimum_tokens or table.minimum_tokens
        paid = sums.money(tokens, price, ttl_s)
        say(
            f"{provider} {name}: prompt tokens {paid.jit_per_day:,.2f} USD a day without caching, "
            f"{paid.aot_per_day:,.2f} with it (input {price.input}, write {price.write}, read "
            f"{price.read}, storage {price.storage_per_hour} an hour, all per million tokens; "
            f"{table.date}, {table.source})"
        )
        say(
            f"a prefix is kept {ttl_s:g} s unused; with arrivals at random about "
            f"{paid.misses_per_day:,.0f} requests a day find it gone"
        )
        within = "never" if paid.break_even is None else f"from request {paid.break_even} on"
        say(f"break-even within one TTL: {within}")
        if tokens.static < least:
            say(f"but: {name} caches from {least:,} tokens on, so nothing is cached here")
            paid = None
    if run:
        per_token = sums.seconds_per_token(run)
        saved = per_token * (tokens.static - tokens.rounding) * requests_per_day
        say(f"own hardware as in {run}: {per_token * 1e6:.1f} µs a token = {saved:,.0f} s a day")
    worth, reasons = sums.advice(tokens, least, paid)
    say("advice: compile ahead of time" if worth else "advice: skip it", "bold")
    for reason in reasons:
        say(f"  {reason}")


def _price(provider: str, model: str | None) -> tuple[PriceTable, str, ModelPrice]:
    known = recipe_names("pricing")
    if provider not in known:
        raise UsageError(f"--provider: no table '{provider}'; known: {', '.join(known)}")
    table = load(CONFIGS / "pricing" / f"{provider}.yaml", PriceTable)
    name = model or table.default_model
    if name not in table.models:
        raise UsageError(
            f"--model: '{name}' is not in configs/pricing/{provider}.yaml: "
            f"{', '.join(table.models)}"
        )
    return table, name, table.models[name]
