"""The verb that says what a run's traffic costs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import JsonOption, RunArgument, verbs
from aot.scripts.cli.choices import Provider
from aot.scripts.terminal import say, say_json, status, table

if TYPE_CHECKING:
    from aot.analysis.report import Evaluation


app = verbs()


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
