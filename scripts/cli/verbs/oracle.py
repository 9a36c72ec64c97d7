"""The verb that says what a cache could find on a trace or a schedule, without an engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aot.configs.caches.rule import CacheRule, dense
from aot.configs.kernel.errors import UsageError
from aot.scripts.cli.arguments import JsonOption, OracleServerOption, SeenArgument, verbs
from aot.scripts.cli.choices import PolicyName, TraceFormat
from aot.scripts.terminal import note, say, status
from aot.scripts.traffic import capacities
from aot.scripts.traffic.capacities import Gib

if TYPE_CHECKING:
    from aot.analysis.cache.reach import Reach
    from aot.scripts.traffic.oracle import Source
    from aot.workloads.requests.tokens import ChatTokenizer
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
        typer.Option(
            "--capacity",
            help="blocks, inf, or 40GiB (of --server or --model); repeatable; default: a range, "
            "and what --server has",
        ),
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
    server: OracleServerOption = None,
    what_if: Annotated[
        bool, typer.Option("--what-if", help="price other orders of the same prompts")
    ] = False,
    curve: Annotated[
        Path | None,
        typer.Option(
            help="write the exact hits of lru (of leaf-lru, where that alone is asked for) at "
            "every capacity to this CSV file"
        ),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="draw hit ratio against capacity into this SVG file")
    ] = None,
    answer_s: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="seconds of every answer: when turns follow; default: as logged, else 4,000 "
            "prompt and 50 output tokens a second",
        ),
    ] = None,
    answers_like: Annotated[
        Path | None,
        typer.Option(help="run directory: answers take as long as measured there"),
    ] = None,
    skip: Annotated[
        int, typer.Option(min=0, help="requests that fill the cache first and are not counted")
    ] = 0,
    as_json: JsonOption = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="count malformed lines and go on")
    ] = False,
) -> None:
    """What a prefix cache can find on this traffic, without an engine.

    Requests are replayed in order of time, turn after turn, from a cold cache of so many blocks:
    lru touches blocks from the front of the prompt, leaf-lru deepest first (what vLLM does), radix
    drops whole leaves of a tree (SGLang), opt finds as many blocks as any policy could; in-flight
    has requests overlap and finds answers in later turns. What is lost to the policy and to the
    capacity is shown apart.

    With --server, or a --model with a config.json, a model with sliding windows or states is
    replayed by the rule of its own cache: leaf-lru, in blocks of all its groups of layers.
    """
    from aot.scripts.traffic import oracle as work

    if server:
        from aot.scripts.traffic import served

        model, block_tokens = served.as_served(server, model, block_tokens)
    options = _Options(
        what, [str(p) for p in policy or ()], capacities.parsed(capacity), block_tokens, curve,
        figure, as_json, server, model, skip,
    )  # fmt: skip
    if what_if:
        _refuse_with_what_if(
            policy, capacity, curve, figure, skip, answer_s is not None, answers_like
        )
    with status(f"reading {what}"):
        source = work.source(what, format_name, _tokenizer(model), skip_bad, block_tokens)
        source.service = work.service_of(answer_s, answers_like)
    if what_if:
        _price_layouts(source, options)
    elif _is_streamed(source, options):
        _replay_streamed(source, options)
    else:
        _replay(source, options)


def _tokenizer(model: str | None) -> Callable[[], ChatTokenizer] | None:
    """How to get it, where it is wanted."""

    def load() -> ChatTokenizer:
        from aot.scripts.prompts.compiling import tokenizer_of

        return tokenizer_of(str(model))

    return load if model else None


@dataclass(frozen=True, slots=True)
class _Options:
    """What the command line asks of a replay."""

    what: Path
    chosen: list[str]
    """Policies that were named."""
    capacities: list[int | Gib | None]
    block_tokens: int | None
    curve: Path | None
    figure: Path | None
    as_json: bool
    server: Path | None
    model: str | None
    skip: int

    @property
    def policies(self) -> list[str]:
        return list(dict.fromkeys(self.chosen or DEFAULT_POLICIES))

    @property
    def finite(self) -> list[int]:
        return [c for c in self.capacities if isinstance(c, int)]

    def in_blocks(self, block_tokens: int, groups: int) -> list[int | None]:
        """The capacities that were given, in blocks."""

        def blocks_of(gib: float) -> int:
            from aot.scripts.doctor.cache_blocks import blocks_of

            return blocks_of(gib, self.server, self.model, block_tokens, groups)

        return capacities.in_blocks(self.capacities, blocks_of)


def _refuse_with_what_if(*unwanted: object) -> None:
    """UsageError where an option is given that does not go with --what-if."""
    if any(unwanted):
        raise UsageError(
            "--what-if prices orders in an infinite cache: it goes with --block-size, --model and "
            "--json only"
        )


def _price_layouts(source: Source, options: _Options) -> None:
    from aot.scripts.traffic import oracle_tables, reordered

    with status("re-running the oracle on corrected requests"):
        layouts = reordered.what_if(source, options.block_tokens)
    if options.as_json:
        say(json.dumps([layout.as_json() for layout in layouts], indent=1))
    else:
        oracle_tables.show_layouts(layouts)


def _is_streamed(source: Source, options: _Options) -> bool:
    """Whether a file is too large to hold, and nothing is asked that needs it held."""
    return (
        source.is_large
        and options.block_tokens in (None, source.format.block_tokens)
        and not {"opt", "in-flight"} & set(options.policies)
        and not (options.skip or options.model)
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
    from aot.analysis.cache import policies, reach
    from aot.scripts.traffic import oracle as work

    with status(f"replaying {options.what}") as line:
        trace = source.blocks(options.block_tokens)
        source.say_skipped()
        size = options.block_tokens or trace.block_tokens
        rule = _rule(options, size)
        names = _names(options, rule)
        sizes = options.in_blocks(size, rule.groups) or _range(
            trace, size, rule.groups, options.server
        )
        if not options.as_json and None not in sizes:
            sizes = [*sizes, None]  # what is lost is lost against that
        _refuse_skip(options.skip, len(trace))
        at_once = [name for name in names if name != policies.IN_FLIGHT]
        reaches = reach.evaluate(trace, size, at_once, sizes, line, rule, options.skip)
        if policies.IN_FLIGHT in names:
            line("requests that overlap, in vLLM's own order")
            finite = [c for c in sizes if c is not None]
            reaches += reach.in_flight_at(source.timed(size), rule, finite, options.skip)
        if options.curve:
            of = "leaf-lru" if options.chosen == ["leaf-lru"] else "lru"
            work.write_curve(trace, size, options.curve, of)
        if options.figure:
            work.draw(trace, size, reaches, options.figure)
    _print(reaches, len(trace), options.as_json, rule.groups)


def _rule(options: _Options, block_tokens: int) -> CacheRule:
    if not (options.server or options.model):
        return dense(block_tokens)
    from aot.scripts.traffic import served

    return served.rule_of(options.server, options.model, block_tokens)


def _names(options: _Options, rule: CacheRule) -> list[str]:
    if rule.is_dense:
        return options.policies
    from aot.scripts.traffic import served

    return served.by_rule(rule, options.chosen)


def _refuse_skip(skip: int, requests: int) -> None:
    if skip >= requests:
        raise UsageError(f"--skip {skip}: the trace has {requests} requests")


def _print(reaches: list[Reach], requests: int | None, as_json: bool, groups: int = 1) -> None:
    from aot.scripts.traffic import oracle_tables

    if as_json:
        say(json.dumps([r.as_json() for r in reaches], indent=1))
    else:
        oracle_tables.show(reaches, requests, groups)


def _range(
    trace: BlockTrace, block_tokens: int, groups: int, server: Path | None
) -> list[int | None]:
    distinct = max(1, round(groups * trace.distinct_blocks * trace.block_tokens / block_tokens))
    sizes = {max(1, round(s * distinct)) for s in DEFAULT_SHARES}
    if server:
        from aot.scripts.doctor.cache_blocks import own_blocks

        if own := own_blocks(server, block_tokens, groups):
            note(f"{own:,} blocks: what the cache of {server.name} holds")
            sizes.add(own)
    return [*sorted(sizes), None]
