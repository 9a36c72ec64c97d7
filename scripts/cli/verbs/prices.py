"""The verbs about money: ask a hosted API, what compiling saves, what a run's traffic costs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import CompiledArgument, JsonOption, KeyOption, RunArgument, verbs
from aot.scripts.cli.choices import ApiName, Provider, TtlName
from aot.scripts.terminal import note, say, say_json, status, table

if TYPE_CHECKING:
    from aot.analysis.report import Evaluation
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
    paid, least = _saved_on(tokens, *priced) if priced else (None, prompt.block_tokens)
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


def _saved_on(
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


@app.command()
def cost(
    run: RunArgument,
    gpu_hour: Annotated[
        float | None, typer.Option(help="US dollars an hour for the machine that was measured")
    ] = None,
    provider: Annotated[
        Provider | None, typer.Option(help="the shipped price table of this one")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="model in the price table; default: the table's")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What a million requests like those of a run cost, in every arm.

    On the machine that was measured (--gpu-hour), or by the token at a hosted API (--provider).
    """
    from aot.analysis import report

    if gpu_hour is None and provider is None:
        raise UsageError("give --gpu-hour USD, or --provider NAME, or both")
    if gpu_hour is not None and gpu_hour <= 0:
        raise UsageError(f"--gpu-hour {gpu_hour:g}: a price above 0")
    with status("reading the run"):
        evaluation = report.evaluate(run)
    if evaluation.void:
        raise UsageError(f"{run}: the run is void, so nothing follows from it")
    costs = {
        "own": _own(evaluation, gpu_hour, as_json) if gpu_hour else None,
        "hosted": _hosted(evaluation, provider, model, as_json) if provider else None,
    }
    if as_json:
        say_json({"run": run.name, **costs})


def _own(evaluation: Evaluation, usd_per_hour: float, quiet: bool) -> list[dict[str, Any]]:
    from aot.analysis.cost import own

    schedule = evaluation.run.schedule
    one_at_a_time = bool(schedule and schedule.mode == "closed" and schedule.users == 1)
    costs = [
        {"server": part.server.name, **asdict(row)}
        for part in evaluation.parts
        for row in own(part.numbers, usd_per_hour, one_at_a_time)
    ]
    if quiet:
        return costs
    right = ("req/s", "a million requests", "÷ auto", "a million prompt tokens", "once a start")
    rows = (
        (
            row["server"], row["arm"], _number(row["requests_per_s"]),
            _usd(row["per_million_requests"]), _times(row["of_default"]),
            _usd(row["per_million_prompt_tokens"]), _usd(row["once"]),
        )
        for row in costs
    )  # fmt: skip
    table(("server", "arm", *right), rows, right=right)
    say(f"assumed: {usd_per_hour:g} USD an hour, and the machine always as busy as in the run")
    say(
        "auto is what an engine does unless told, so it is what the others are held against; once "
        "a start: warming in aot, the wait of the cold requests in auto"
    )
    if not all(row["once_is_apart"] for row in costs):
        say(
            "auto's cold requests are in its cost of a million as well, as often as they were in "
            "this run: requests overlapped, and a longer run has fewer of them"
        )
    if schedule and schedule.mode == "open":
        say(
            "the load was an open loop: req/s is what was sent, not the most that an arm can "
            "serve, so arms that kept up cost the same; measure a closed loop for what is possible"
        )
    return costs


def _hosted(
    evaluation: Evaluation, provider: str, model: str | None, quiet: bool
) -> list[dict[str, Any]]:
    from aot.analysis.cost import hosted
    from aot.configs.loading.pricing import price_of

    prices, name, price = price_of(provider, model)
    costs = []
    for part in evaluation.parts:
        server = part.server
        arm = next((a for a in ("aot", "auto", "jit") if a in server.arms), None)
        rows = evaluation.frame[
            (evaluation.frame["server"] == server.name) & (evaluation.frame["arm"] == arm)
        ]
        priced = hosted(server, rows, prices, price)
        if priced is None:
            raise UsageError(
                f"{evaluation.run.folder}: {server.name}: the tokens of its prompts or of their "
                "static prefixes are not known, so there is nothing to price"
            )
        costs.append({"server": server.name, "provider": provider, "model": name, **asdict(priced)})
        if quiet:
            continue
        say(
            f"{server.name}: {provider} {name}: a million requests like these cost "
            f"{_usd(priced.jit_per_million_requests)} without caching, "
            f"{_usd(priced.aot_per_million_requests)} with it; a million prompt tokens "
            f"{_usd(priced.jit_per_million_prompt_tokens)} and "
            f"{_usd(priced.aot_per_million_prompt_tokens)}"
        )
        say(
            f"assumed: tokens as {server.facts['model']} counts them; sent at the times of this "
            f"run, so that {priced.writes} of {priced.requests} requests write their prefix and "
            f"the others read it; input {price.input:g}, write {price.write:g}, read "
            f"{price.read:g}, output {price.output:g} USD a million tokens ({prices.date}, "
            f"{prices.source}); storage by the hour is not included"
        )
    return costs


def _usd(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.2f} USD"


def _times(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g}"
