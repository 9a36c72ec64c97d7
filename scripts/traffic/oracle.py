"""`aot oracle`: a schedule, a workload or a trace of any format, as a cache sees it."""

from __future__ import annotations

import csv
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aot.analysis.cache import layouts, stack_distance
from aot.analysis.cache.layouts import Layout
from aot.analysis.cache.reach import Reach
from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.scripts.prompts.compiling import tokenizer_of
from aot.scripts.terminal import note
from aot.scripts.traffic import plan
from aot.workloads.lint.corrections import CORRECTIONS
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.tokens import ChatTokenizer
from aot.workloads.traces import formats as traces
from aot.workloads.traces.blocks import BlockTrace, StreamedTrace, regroup
from aot.workloads.traces.file import Rows
from aot.workloads.traces.formats import FORMATS, Format
from aot.workloads.traces.request_log import Logged, as_logged, as_traced
from aot.workloads.traces.to_blocks import Encode, block_trace
from aot.workloads.traces.traced import Traced

SCHEDULE = Format("schedule", "messages", lambda _: iter(()))
ORDERS = ("dynamic-first", "document-order", "example-order")
"""Corrections that only put the same text into another order."""


LARGE_BYTES = 200_000_000
"""A file of blocks above this is read again and again rather than held."""


@dataclass(slots=True)
class Source:
    """Requests in file order, read anew each time."""

    rows: Rows
    format: Format
    tokenizer: ChatTokenizer | None

    @property
    def encode(self) -> Encode | None:
        return self.tokenizer.encode_many if self.tokenizer else None

    def requests(self) -> Iterator[Traced]:
        if self.format is not SCHEDULE:
            return traces.read(self.rows, self.format)
        return _planned(self.rows.path, self.tokenizer.encode if self.tokenizer else None)

    def blocks(self, block_tokens: int | None) -> BlockTrace:
        return block_trace(self.requests(), self.format, block_tokens, self.encode)

    def streamed(self) -> StreamedTrace:
        """For a file with blocks of its own that is too large to hold."""

        def read() -> Iterator[tuple[Sequence[Hashable], int]]:
            self.rows.skipped = 0
            for traced in self.requests():
                yield traced.blocks, traced.input_tokens or 0

        return StreamedTrace(self.format.block_tokens or 1, read)

    @property
    def is_large(self) -> bool:
        return self.format.knows == "blocks" and self.rows.path.stat().st_size > LARGE_BYTES

    def say_skipped(self) -> None:
        if self.rows.skipped:
            note(f"{self.rows.skipped} bad lines left out, the first: {self.rows.first_skipped}")


def source(path: Path, format_name: str | None, model: str | None, skip_bad: bool) -> Source:
    """The file, not read yet. UsageError for one that is none, and for an unknown format."""
    if format_name is not None and format_name not in FORMATS:
        raise UsageError(f"--format: '{format_name}' is none of {', '.join(FORMATS)}")
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    tokenizer = tokenizer_of(model) if model else None
    rows = Rows(path, skip_bad)
    if format_name:
        return Source(rows, FORMATS[format_name], tokenizer)
    if path.suffix in (".yaml", ".yml") or schedule_file.is_schedule(path):
        return Source(rows, SCHEDULE, tokenizer)
    return Source(rows, traces.detect(path), tokenizer)


def _planned(path: Path, encode: plan.Encode | None) -> Iterator[Traced]:
    schedule = plan.schedule_of(path, encode)
    left_out = len(schedule.requests) - len(schedule.planned)
    if left_out:
        note(f"{left_out} turns left out: a server's own answers are in them, which are not known")
    for number, request in enumerate(schedule.planned, 1):
        messages, tools = schedule.chat_of(request)
        yield Traced(number, at_s=request.at_s, messages=tuple(messages), tools=tools)


def what_if(source: Source, block_tokens: int | None) -> list[Layout]:
    """Every order of the requests' parts, priced. UsageError where a trace cannot be reordered."""
    match source.format.knows:
        case "parts":
            priced_layouts = layouts.price([r.parts for r in source.requests()], block_tokens or 1)
            source.say_skipped()
            return priced_layouts
        case "messages":
            return _reordered_texts(source, block_tokens)
    raise UsageError(
        f"a trace of format {source.format.name} names blocks of whole prompts, not their parts: "
        "what another order would be worth cannot be told from it (ragpulse, openai, sharegpt and "
        "schedules can)"
    )


def _reordered_texts(source: Source, block_tokens: int | None) -> list[Layout]:
    log = [as_logged(r) for r in source.requests()]
    source.say_skipped()
    everything = log
    versions: list[tuple[str, str, list[Logged]]] = [
        ("as logged", "the order that is sent", log),
        ("canary", "the same order, measured again: must change nothing", list(log)),
    ]
    for rule in ORDERS:
        reordered_log = CORRECTIONS[rule](log)
        if reordered_log != log:
            versions.append((rule, "mended as 'aot lint' says", reordered_log))
            everything = CORRECTIONS[rule](everything)
    versions.append(("all of them", "every order mended", everything))
    priced_layouts: list[Layout] = []
    for name, what, version in versions:
        trace = block_trace(map(as_traced, version), FORMATS["openai"], block_tokens, source.encode)
        priced_layouts.append(
            layouts.of_trace(name, what, trace, priced_layouts[0] if priced_layouts else None)
        )
    return priced_layouts


def write_curve(trace: BlockTrace, block_tokens: int, path: Path) -> None:
    """capacity_blocks, hit_blocks, hit_tokens, hit_ratio: a row for each capacity that gains."""
    curve = stack_distance.curve(regroup(trace, block_tokens))
    total = int(trace.input_tokens.sum())
    columns = (curve.capacity_blocks, curve.hit_blocks, curve.hit_tokens)
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(("capacity_blocks", "hit_blocks", "hit_tokens", "hit_ratio"))
        for capacity, blocks, tokens in zip(*(c.tolist() for c in columns), strict=True):
            writer.writerow((capacity, blocks, tokens, tokens / total))


def draw(trace: BlockTrace, block_tokens: int, reaches: list[Reach], path: Path) -> None:
    """Hit ratio against capacity: LRU exactly, the others where they were simulated."""
    from aot.analysis.cache import capacity_curve

    curve = stack_distance.curve(regroup(trace, block_tokens))
    svg = capacity_curve.svg(curve, int(trace.input_tokens.sum()), reaches)
    with replacing(path) as partial:
        partial.write_text(svg, encoding="utf-8")
