"""The verb that says what a cache could find on a trace or a schedule, without an engine."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import JsonOption, SeenArgument, verbs
from aot.scripts.cli.choices import PolicyName, TraceFormat
from aot.scripts.terminal import note, say, status, table

if TYPE_CHECKING:
    from aot.analysis.cache.layouts import Layout
    from aot.analysis.cache.reach import Reach
    from aot.scripts.traffic.oracle import Source
    from aot.workloads.traces.blocks import BlockTrace

DEFAULT_POLICIES = ("lru", "leaf-lru", "opt")
DEFAULT_SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Of the distinct blocks of a trace, where no capacity is given."""


app = verbs()


@app.command()
def oracle(
    what: SeenArgument,
    format_name: Annotated[
        TraceFormat | None, typer.Option("--format", help="of a trace; default: by the file")
    ] = None,
    policy: Annotated[
        list[PolicyName] | None,
        typer.Option(help="can be given again; default: lru, leaf-lru and opt"),
    ] = None,
    capacity: Annotated[
        list[str] | None,
        typer.Option("--capacity", help="blocks, or inf; repeatable; default: a range"),
    ] = None,
    block_tokens: Annotated[
        int | None,
        typer.Option(
            "--block-tokens", "--block-size", min=1, help="default: the trace's own, or 16"
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="model folder or recipe: counts tokens of texts"),
    ] = None,
    what_if: Annotated[
        bool, typer.Option("--what-if", help="price other orders of the same prompts")
    ] = False,
    curve: Annotated[
        Path | None,
        typer.Option(help="write the exact LRU hits at every capacity to this CSV file"),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="draw hit ratio against capacity into this SVG file")
    ] = None,
    as_json: JsonOption = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="count malformed lines and go on")
    ] = False,
) -> None:
    """What a prefix cache can find on this traffic, without an engine.

    Requests are replayed in file order from a cold cache of so many blocks: lru touches blocks from
    the front of the prompt, leaf-lru deepest first (what vLLM does), opt finds as many blocks as
    any policy could. What is lost to the policy and to the capacity is shown apart.
    """
    from aot.scripts.traffic import oracle as work

    policies = list(dict.fromkeys(map(str, policy or DEFAULT_POLICIES)))
    options = _Options(what, policies, _capacities(capacity), block_tokens, curve, figure, as_json)
    if what_if:
        _refuse_with_what_if(policy, capacity, curve, figure)
    with status(f"reading {what}"):
        source = work.source(what, format_name, model, skip_bad)
    if what_if:
        _price_layouts(source, options)
    elif _is_streamed(source, options):
        _replay_streamed(source, options)
    else:
        _replay(source, options)


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command line asks of a replay."""

    what: Path
    policies: list[str]
    capacities: list[int | None]
    block_tokens: int | None
    curve: Path | None
    figure: Path | None
    as_json: bool

    @property
    def finite(self) -> list[int]:
        return [c for c in self.capacities if c is not None]


def _refuse_with_what_if(*unwanted: object) -> None:
    """UsageError where an option is given that does not go with --what-if."""
    if any(unwanted):
        raise UsageError(
            "--what-if prices orders in an infinite cache: it goes with --block-size, --model and "
            "--json only"
        )


def _price_layouts(source: Source, options: _Options) -> None:
    from aot.scripts.traffic import oracle as work

    with status("re-running the oracle on corrected requests"):
        layouts = work.what_if(source, options.block_tokens)
    _show_layouts(layouts, options.as_json)


def _is_streamed(source: Source, options: _Options) -> bool:
    """Whether a file is too large to hold, and nothing is asked that needs it held."""
    return (
        source.is_large
        and options.block_tokens in (None, source.format.block_tokens)
        and "opt" not in options.policies
        and len(options.finite) == len(options.capacities) > 0
        and not (options.curve or options.figure)
    )


def _replay_streamed(source: Source, options: _Options) -> None:
    from aot.analysis.cache import reach

    title = f"replaying {options.what}, which is read once for each policy and capacity"
    with status(title) as line:
        reaches = reach.streamed(source.streamed(), options.policies, options.finite, line)
    source.say_skipped()
    _print(reaches, None, options.as_json)


def _replay(source: Source, options: _Options) -> None:
    from aot.analysis.cache import reach
    from aot.scripts.traffic import oracle as work

    with status(f"replaying {options.what}") as line:
        trace = source.blocks(options.block_tokens)
        source.say_skipped()
        size = options.block_tokens or trace.block_tokens
        capacities = options.capacities or _range(trace, size)
        if not options.as_json and None not in capacities:
            capacities = [*capacities, None]  # what is lost is lost against that
        reaches = reach.evaluate(trace, size, options.policies, capacities, line)
        if options.curve:
            work.write_curve(trace, size, options.curve)
        if options.figure:
            work.draw(trace, size, reaches, options.figure)
    _print(reaches, len(trace), options.as_json)


def _print(reaches: list[Reach], requests: int | None, as_json: bool) -> None:
    if as_json:
        say(json.dumps([r.as_json() for r in reaches], indent=1))
    else:
        _show(reaches, requests)


def _capacities(given: list[str] | None) -> list[int | None]:
    capacities: list[int | None] = []
    for text in given or ():
        if text in ("inf", "infinite"):
            capacities.append(None)
        elif (
            (digits := text.replace(",", "")).isascii()
            and digits.isdigit()
            and (int(digits[:18]) > 0 and len(digits) <= 18)
        ):
            capacities.append(int(digits))
        else:
            raise UsageError(f"--capacity {text}: expected a number of blocks, 1 or more, or inf")
    return list(dict.fromkeys(capacities))


def _range(trace: BlockTrace, block_tokens: int) -> list[int | None]:
    distinct = max(1, round(trace.distinct_blocks * trace.block_tokens / block_tokens))
    return [*sorted({max(1, round(s * distinct)) for s in DEFAULT_SHARES}), None]


def _show(reaches: list[Reach], requests: int | None) -> None:
    from aot.analysis.cache.reach import gaps

    names = list(dict.fromkeys(r.policy for r in reaches))
    first = reaches[0]
    say(
        ("" if requests is None else f"{requests:,} requests, ")
        + f"{first.total_tokens:,} tokens, {first.total_blocks:,} blocks of "
        f"{first.block_size}; hit ratio by tokens"
    )
    lost = {g.capacity_blocks: g for g in gaps(reaches)}
    rows = []
    for capacity in dict.fromkeys(r.capacity_blocks for r in reaches):
        row = [f"{r.hit_ratio:.2%}" for r in reaches if r.capacity_blocks == capacity]
        gap = lost.get(capacity) if capacity else None
        shares = (gap.policy_tokens, gap.capacity_tokens) if gap else (None, None)
        rows.append(
            (
                f"{capacity:,}" if capacity else "infinite",
                f"{capacity * first.block_size:,}" if capacity else "",
                *row,
                *("" if s is None else f"{s / first.total_tokens:.2%}" for s in shares),
            )
        )
    headers = ("blocks", "tokens", *names, "lost to policy", "lost to capacity")
    table(headers, rows, right=headers)
    if lost:
        say("lost to policy: opt − leaf-lru; lost to capacity: infinite − opt")


def _show_layouts(layouts: list[Layout], as_json: bool) -> None:
    if as_json:
        say(json.dumps([layout.as_json() for layout in layouts], indent=1))
        return
    rows = [
        (
            layout.name,
            f"{layout.hit_ratio:.2%}",
            f"{layout.gain_tokens / layout.total_tokens:+.2%}",
            f"{layout.gain_tokens:+,}",
            layout.what,
        )
        for layout in layouts
    ]
    right = ("hit ratio", "gain", "tokens")
    table(("layout", *right, ""), rows, right=right)
    note("in an infinite cache; every layout sends the same parts of the same requests")
    logged = layouts[0]
    best = max(layouts[1:], key=lambda x: (x.reachable, x.hit_tokens))
    missed = logged.total_tokens - logged.hit_tokens
    if best.gain_tokens > 0:
        say(
            f"the order as logged costs {best.gain_tokens:,} tokens, "
            f"{best.gain_tokens / missed:.0%} of all that is computed; mended by: {best.name}"
        )
    else:
        say("no order of these parts finds more than the one that is sent")
