"""The verb that finds what breaks the reuse of prompts, in folders and logs."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.scripts.cli.arguments import LintArguments, TemplateArgOption, template_arguments, verbs
from aot.scripts.cli.choices import FailOn, LintFormat, Provider
from aot.scripts.terminal import note, out, status

if TYPE_CHECKING:
    from aot.scripts.prompts.linting import Linted, Options
    from aot.workloads.lint.flaw import Flaw

app = verbs()


@app.command()
def lint(
    what: LintArguments,
    model: Annotated[
        str | None,
        typer.Option("--model", help="model folder or recipe: exact tokens, and its chat template"),
    ] = None,
    template_arg: TemplateArgOption = None,
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
    fail_on: Annotated[FailOn, typer.Option(help="exit with 1 from this level on")] = "error",
    baseline: Annotated[
        Path | None, typer.Option(help="leave out the findings that are in this file")
    ] = None,
    to_baseline: Annotated[
        Path | None, typer.Option("--write-baseline", help="write that file from what is found now")
    ] = None,
    ignore: Annotated[
        list[str] | None, typer.Option(help="leave out this rule; may be given several times")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="write here a log without its flaws, or a patch for a folder"),
    ] = None,
    output_format: Annotated[LintFormat, typer.Option("--format")] = "text",
) -> None:
    """Find what breaks prefix reuse: where, what it costs, the remedy.

    A prompt folder is read; a request log is measured: what each request has in common with the
    earlier one that is most like it, and does not find. In a folder, a comment
    {# aot: ignore RULE #} in a line or above it leaves a finding out.
    """
    if price_model and not provider:
        raise UsageError("--price-model: of which --provider?")
    from aot.scripts.prompts import linting

    if provider:
        of_table, least = linting.prices(provider, price_model)
        price = of_table if price is None else price
        minimum_tokens = minimum_tokens or least
    arguments = template_arguments(template_arg)
    options = linting.Options.of(model, block_tokens, minimum_tokens, arguments)
    made = _linted(what, options)
    flaws = [f for one in made.values() for f in one.flaws if f.rule not in _rules(ignore)]
    if fix:
        _fix(what, flaws, fix)
    if to_baseline:
        linting.write_baseline(to_baseline, flaws)
        note(f"{to_baseline}: {len(flaws)} findings that are known from here on")
        return
    if baseline:
        everything, flaws = flaws, linting.unknown(baseline, flaws)
        note(f"{len(everything) - len(flaws)} findings are in {baseline}")
    totals = {str(path): one.totals for path, one in made.items() if one.totals}
    if shown := _shown(flaws, output_format, price, totals, new_only=bool(baseline or ignore)):
        out().out(shown)
    for log, facts in totals.items():
        _say_totals(log, facts)
    _say_rule(model, block_tokens)
    _fail(flaws, fail_on, what)


def _linted(what: list[Path], options: Options) -> dict[Path, Linted]:
    from aot.scripts.prompts import linting

    gc.disable()  # millions of small objects, and no cycles among them: collecting takes half
    made: dict[Path, Linted] = {}
    for path in what:
        with status(f"looking at {path}"):
            made[path] = linting.lint(path, options)
    return made


def _fix(what: list[Path], flaws: list[Flaw], to: Path) -> None:
    """The corrected log, and what is left of the flaws."""
    from aot.workloads.corrections import corrected

    if len(what) != 1:
        raise UsageError("--fix: of one request log, or one prompt folder")
    if what[0].is_dir():
        _patch(what[0], to)
        return
    rules = {f.rule for f in flaws}
    made = corrected.write(what[0], rules, to)
    words = f"mended: {', '.join(made.applied)}" if made.applied else "nothing that can be mended"
    note(
        f"{to}: {words}; {made.changed} requests changed, {made.before:.1%} of the text had to be "
        f"computed and {made.after:.1%} has to be now (unbounded cache)"
    )
    if left := sorted(rules - set(made.applied)):
        note(f"not mended: {', '.join(left)} (only the application that builds them can)")


def _patch(folder: Path, to: Path) -> None:
    """What can be mended in a folder without changing what it says."""
    from aot.scripts.prompts import patching

    changed = patching.write(folder, to)
    if changed:
        note(f"{to}: mends white space and Unicode forms in {', '.join(changed)}; git apply {to}")
    else:
        note("--fix: nothing that can be mended without changing what the prompt says")


def _fail(flaws: list[Flaw], fail_on: FailOn, what: list[Path]) -> None:
    from aot.scripts.prompts.linting import LEVELS

    if fail_on == "never":
        return
    grave = sum(LEVELS.index(f.level) >= LEVELS.index(fail_on) for f in flaws)
    if grave:
        words = f"level {fail_on}" + ("" if fail_on == "error" else " or above")
        raise ToolkitError(f"{grave} finding(s) of {words} in {', '.join(map(str, what))}")


def _rules(names: list[str] | None) -> set[str]:
    from aot.workloads.lint.flaw import RULES

    for name in names or ():
        if name not in RULES:
            raise UsageError(f"--ignore: '{name}' is no rule; they are {', '.join(sorted(RULES))}")
    return set(names or ())


def _say_totals(path: str, facts: dict[str, Any]) -> None:
    """Of a log: what is computed, and what part of it could not be found anyhow."""
    words = (
        f"{path}: of {facts['tokens']:,.0f} prompt tokens {facts['computed_tokens']:,.0f} must be "
        f"computed, and {facts['ideal_tokens']:,.0f} could not be found anyhow (unbounded cache)"
    )
    if facts["served_hit_ratio"] is not None:
        words += f"; its own server found {facts['served_hit_ratio']:.1%} of them"
    note(words)
    if facts["bad_lines"]:
        note(f"{facts['bad_lines']} bad lines left out, the first: {facts['first_bad_line']}")


def _say_rule(model: str | None, block_tokens: int) -> None:
    """What the kind of cache of the model adds to all of it."""
    if model is None:
        return
    from aot.scripts.traffic.served import known_rule

    rule = known_rule(None, model, block_tokens)
    if rule and rule.advice:
        note(f"note: {rule.advice}")


NOTHING_LOST = 1.01
"""Computed tokens over those that could not be found anyhow, up to where nothing was found."""


def _shown(
    flaws: list[Flaw],
    shape: LintFormat,
    price: float | None,
    totals: dict[str, dict[str, Any]],
    *,
    new_only: bool,
) -> str:
    """`new_only`: findings were left out, so that what is lost may be known."""
    from aot.scripts.prompts import lint_output

    match shape:
        case "json":
            return lint_output.as_json(flaws, price, totals)
        case "sarif":
            return lint_output.as_sarif(flaws)
        case "github":
            # No finding is no line: a code host reads every one.
            return lint_output.as_github(flaws)
        case _:
            nothing = "nothing else found" if new_only else _nothing(totals)
            return lint_output.as_text(flaws, price) or nothing


def _nothing(totals: dict[str, dict[str, Any]]) -> str:
    """Said where it is true: small losses at many places are none that a rule has found."""
    lost = sum(t["computed_tokens"] for t in totals.values())
    least = sum(t["ideal_tokens"] for t in totals.values())
    if lost <= NOTHING_LOST * least:
        return "nothing found"
    share = (lost - least) / lost
    return f"nothing that is worth a line; {share:.0%} of what is computed is lost at small places"
