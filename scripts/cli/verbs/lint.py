"""The verb that finds what breaks the reuse of prompts, in a folder or a log."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.scripts.cli.arguments import LintArgument, verbs
from aot.scripts.cli.choices import LintFormat, Provider
from aot.scripts.terminal import note, out, status

if TYPE_CHECKING:
    from aot.workloads.lint.flaw import Flaw

app = verbs()
CHARACTERS_PER_TOKEN = 4.0
"""Of English text with the usual tokenizers; what is assumed without --model."""


@app.command()
def lint(
    what: LintArgument,
    model: Annotated[
        str | None,
        typer.Option("--model", help="model folder or recipe: exact tokens, and its chat template"),
    ] = None,
    block_tokens: Annotated[int, typer.Option(min=1, help="block size of the server")] = 16,
    minimum_tokens: Annotated[
        int | None, typer.Option(min=0, help="a provider's smallest prefix that is cached at all")
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(
            min=0, help="what a million prompt tokens cost that are not found, to show money"
        ),
    ] = None,
    provider: Annotated[
        Provider | None, typer.Option(help="or take the shipped price table of this one")
    ] = None,
    price_model: Annotated[
        str | None, typer.Option(help="model in the price table; default: the table's")
    ] = None,
    output_format: Annotated[LintFormat, typer.Option("--format")] = "text",
) -> None:
    """Find what breaks prefix reuse: where, what it costs, the remedy.

    A prompt folder is read; a request log is measured: its prefix tree is rebuilt with each flaw
    mended. Exits with 1 when there is a finding of level error.
    """
    if price_model and not provider:
        raise UsageError("--price-model: of which --provider?")
    if provider:
        of_table, least = _prices(provider, price_model)
        price = of_table if price is None else price
        minimum_tokens = minimum_tokens or least
    extra: dict[str, Any] = {}
    with status(f"looking at {what}"):
        if what.is_dir():
            flaws = _folder(what, model, block_tokens, minimum_tokens)
        else:
            flaws, extra = _log(what, model)
    if shown := _shown(flaws, output_format, price, extra):
        out().out(shown)
    if extra:
        note(
            "of {tokens:,.0f} prompt tokens {computed_tokens:,.0f} must be computed, and "
            "{ideal_tokens:,.0f} with all of this mended (unbounded cache)".format(**extra)
        )
    _say_rule(model, block_tokens)
    errors = sum(f.level == "error" for f in flaws)
    if errors:
        raise ToolkitError(f"{errors} finding(s) of level error in {what}")


def _say_rule(model: str | None, block_tokens: int) -> None:
    """What the kind of cache of the model adds to all of it."""
    if model is None:
        return
    from aot.scripts.traffic.served import known_rule

    rule = known_rule(None, model, block_tokens)
    if rule and rule.advice:
        note(f"note: {rule.advice}")


def _prices(provider: str, model: str | None) -> tuple[float, int]:
    """What a token costs more that is not found in the cache, and the smallest cached prefix."""
    from aot.configs.loading.pricing import price_of

    table, _, paid = price_of(provider, model)
    return paid.input - paid.read, paid.minimum_tokens or table.minimum_tokens


def _shown(flaws: list[Flaw], shape: LintFormat, price: float | None, extra: dict[str, Any]) -> str:
    from aot.scripts.prompts import lint_output

    match shape:
        case "json":
            return lint_output.as_json(flaws, price, extra)
        case "sarif":
            return lint_output.as_sarif(flaws)
        case "github":
            # No finding is no line: a code host reads every one.
            return lint_output.as_github(flaws)
        case _:
            return lint_output.as_text(flaws, price) or "nothing found"


def _folder(
    path: Path, model: str | None, block_tokens: int, minimum_tokens: int | None
) -> list[Flaw]:
    from aot.scripts.prompts.compiling import tokenizer_of
    from aot.workloads.lint import folder as lint_folder
    from aot.workloads.prompts import folder as prompts

    tokenizer = tokenizer_of(model) if model else None

    def count(text: str) -> int:
        return tokenizer.count(text) if tokenizer else round(len(text) / CHARACTERS_PER_TOKEN)

    measure = lint_folder.Measure(
        count,
        block_tokens,
        minimum_tokens,
        tokenizer.render if tokenizer else None,
        tokenizer.tomorrow().render if tokenizer else None,
    )
    return lint_folder.lint(prompts.read(path), measure)


def _log(path: Path, model: str | None) -> tuple[list[Flaw], dict[str, Any]]:
    from aot.scripts.prompts.compiling import tokenizer_of
    from aot.workloads.lint import log as lint_log
    from aot.workloads.lint import seen

    gc.disable()  # millions of small objects, and no cycles among them: collecting takes half
    log, _ = seen.read(path)
    ratio = 1 / CHARACTERS_PER_TOKEN
    if model:
        sample = "".join(text for r in log[:20] for _, text in r.parts)
        ratio = tokenizer_of(model).count(sample) / max(1, len(sample))
    report = lint_log.lint(log, str(path), ratio)
    extra = {
        "requests": report.requests,
        "tokens": report.tokens,
        "computed_tokens": report.computed_tokens,
        "ideal_tokens": report.ideal_tokens,
    }
    return report.flaws, extra
