"""The verbs about hosted APIs: ask one with a compiled prompt, and what compiling is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.scripts.cli.arguments import CompiledArgument, KeyOption, verbs
from aot.scripts.cli.choices import ApiName, Provider, TtlName
from aot.scripts.terminal import note, say

if TYPE_CHECKING:
    from aot.analysis.savings import Money, Tokens
    from aot.configs.loading.pricing import ModelPrice, PriceTable

app = verbs()


@app.command()
def ask(
    what: CompiledArgument,
    question: Annotated[str, typer.Argument(help="the dynamic part: one user message")],
    model: Annotated[str, typer.Option("--model", help="model name in the API")],
    api: Annotated[ApiName, typer.Option(help="whose")] = "openai",
    url: Annotated[
        str | None, typer.Option("--url", help="base URL; default: the vendor's own")
    ] = None,
    ttl: Annotated[TtlName, typer.Option(help="how long the static part is kept")] = "5m",
    max_tokens: Annotated[int, typer.Option(min=1, help="longest answer")] = 256,
    api_key_env: KeyOption = None,
) -> None:
    """Ask an API with a compiled prompt; show what its cache did.

    The static part is kept as each API wants it: by order (openai), by breakpoints (anthropic), as
    a cached content (gemini).
    """
    from aot.configs.kernel.network import base_url
    from aot.serving.hosted import apis
    from aot.serving.hosted.api import Account, Static
    from aot.workloads.prompts import compiled

    prompt = compiled.read(what)
    static = Static(prompt.messages, tuple(prompt.tools), prompt.cache_key, prompt.cache_salt)
    client = apis.client(api, Account(url and base_url(url, "--url"), model, api_key_env), ttl)
    answer = client.ask(static, [{"role": "user", "content": question}], max_tokens)
    say(answer.text)
    counts = {
        "prompt": answer.usage.prompt_tokens,
        "cached": answer.usage.cached_tokens,
        "written": answer.usage.written_tokens,
        "output": answer.usage.output_tokens,
    }
    shown = (f"{k} {'not reported' if v is None else v}" for k, v in counts.items())
    note(f"tokens: {', '.join(shown)}")


@app.command()
def savings(
    what: CompiledArgument,
    requests_per_day: Annotated[int, typer.Option(min=1, help="requests with this prompt a day")],
    provider: Annotated[
        Provider | None, typer.Option(help="the shipped price table of this one")
    ] = None,
    price_model: Annotated[
        str | None, typer.Option("--model", help="model in the price table; default: the table's")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="measured run directory, for seconds of own hardware"),
    ] = None,
) -> None:
    """What compiling saves in a day: tokens, money, seconds.

    And whether to do it.
    """
    from aot.analysis import savings as sums
    from aot.configs.loading.pricing import price_of
    from aot.workloads.prompts import compiled

    prompt = compiled.read(what)
    priced = price_of(provider, price_model) if provider else None
    per_token = sums.seconds_per_token(run) if run else None
    tokens = sums.Tokens(
        requests_per_day, prompt.static_tokens, prompt.rounding_tokens, prompt.dynamic_tokens.median
    )
    say(
        f"{prompt.id}: {tokens.static:,} static tokens × {requests_per_day:,} requests a day = "
        f"{tokens.static_per_day:,} tokens a day"
    )
    say(
        f"on blocks of {prompt.block_tokens}: less {tokens.rounding} tokens of rounding a request "
        f"= {tokens.saved_per_day:,} tokens a day not processed"
    )
    paid, least = _hosted(tokens, *priced) if priced else (None, prompt.block_tokens)
    if per_token is not None:
        saved = per_token * (tokens.static - tokens.rounding) * requests_per_day
        say(
            f"own hardware as in {run}, against no caching: {per_token * 1e6:.1f} µs a token = "
            f"{saved:,.0f} s a day"
        )
        if run and (default := sums.against_default(run)):
            cold, requests, extra_s = default
            say(
                f"against caching as it is by default: {cold} of {requests} requests were cold "
                f"after a start, and waited {extra_s:.2f} s longer; compiling spares those"
            )
    worth, reasons = sums.advice(tokens, least, paid, hosted=priced is not None)
    say("advice: compile ahead of time" if worth else "advice: skip it", "bold")
    for reason in reasons:
        say(f"  {reason}")


def _hosted(
    tokens: Tokens, table: PriceTable, name: str, price: ModelPrice
) -> tuple[Money | None, int]:
    """Say what a provider charges; the money, None where nothing is cached, and its minimum."""
    from aot.analysis import savings as sums

    life = sums.Lifetime(
        price.ttl_s or table.ttl_s,
        table.renewed_by_use,
        price.step_tokens or table.step_tokens,
    )
    least = price.minimum_tokens or table.minimum_tokens
    paid = sums.money(tokens, price, life)
    who = f"{table.provider} {name}"
    if tokens.static < least:
        say(
            f"{who}: prefixes are cached from {least:,} tokens on, so nothing is here: prompt "
            f"tokens {paid.jit_per_day:,.2f} USD a day ({table.date}, {table.source})"
        )
        return None, least
    say(
        f"{who}: prompt tokens {paid.jit_per_day:,.2f} USD a day without caching, "
        f"{paid.aot_per_day:,.2f} with it (input {price.input}, write {price.write}, read "
        f"{price.read}, storage {price.storage_per_hour} an hour, all per million tokens; cached "
        f"in steps of {life.step_tokens}; {table.date}, {table.source})"
    )
    since = "unused" if life.renewed else "from when it is written"
    say(
        f"a prefix is kept {life.ttl_s:g} s {since}; with arrivals at random about "
        f"{paid.misses_per_day:,.0f} requests a day find it gone"
    )
    within = "never" if paid.break_even is None else f"from request {paid.break_even} on"
    say(f"break-even within one TTL: {within}")
    return paid, least
