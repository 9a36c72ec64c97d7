"""`aot oracle`: a schedule, a workload or a trace of any format, as a cache sees it."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from aot.analysis.cache import stack_distance
from aot.analysis.cache.in_flight import Timed
from aot.analysis.cache.reach import Reach
from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.scripts.terminal import note
from aot.workloads.logs.file import Rows
from aot.workloads.logs.interned import Interned
from aot.workloads.logs.traced import Traced
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.traces import formats as traces
from aot.workloads.traces.blocks import BlockTrace, StreamedTrace, regroup
from aot.workloads.traces.formats import FORMATS, Format
from aot.workloads.traces.in_time import Service, in_time
from aot.workloads.traces.timed_blocks import timed_blocks
from aot.workloads.traces.to_blocks import Encode, block_trace

if TYPE_CHECKING:
    from aot.workloads.requests.tokens import ChatTokenizer

SCHEDULE = Format("schedule", "messages", lambda _: iter(()))
OWN_CLOCKS = ("coding", "weka")
"""Formats whose sessions each begin at 0: how they stand to each other is not known."""
LARGE_BYTES = 200_000_000
"""A file of blocks above this is read again and again rather than held."""


@dataclass(slots=True)
class Source:
    """Requests in file order, read anew each time."""

    rows: Rows
    format: Format
    load_tokenizer: Callable[[], ChatTokenizer] | None
    """None: texts cannot be counted."""
    service: Service | None = None
    """How long answers take; None: as logged, else what is usual."""

    def _tokenizer(self) -> ChatTokenizer | None:
        """None where nothing is to be counted, too."""
        wanted = self.format.knows == "messages" and self.load_tokenizer
        return wanted() if wanted else None

    @property
    def encode(self) -> Encode | None:
        tokenizer = self._tokenizer()
        return tokenizer.encode_many if tokenizer else None

    def requests(self) -> Iterator[Traced]:
        """In order of time, a turn behind its answer, as a server would get them."""
        if self.format is SCHEDULE:
            tokenizer = self._tokenizer()
            encode = tokenizer.encode if tokenizer else None
            yield from in_time(_planned(self.rows.path, encode, not self.service), self.service)
        elif self.format.name in OWN_CLOCKS or self.format.knows != "messages" or self._in_order():
            yield from self.logged()
        else:
            parts = Interned()
            yield from in_time(map(parts.request, self.logged()), self.service)

    def logged(self) -> Iterator[Traced]:
        """As the file has them, times and all."""
        self.rows.skipped = 0
        return traces.read(self.rows, self.format)

    def _in_order(self) -> bool:
        """Whether a file that is too large to hold is in order of time as it is."""
        if self.rows.path.is_dir() or self.rows.path.stat().st_size <= LARGE_BYTES:
            return False
        bare = [replace(r, messages=(), tools=(), body=None) for r in self.logged()]
        return [r.line for r in in_time(bare, self.service)] == [r.line for r in bare]

    def blocks(self, block_tokens: int | None) -> BlockTrace:
        return block_trace(self.requests(), self.format, block_tokens, self.encode)

    def timed(self, block_tokens: int) -> list[Timed]:
        """Requests that overlap, as a server gets them."""
        rows = in_time(self.requests(), self.service)
        made = timed_blocks(rows, self.format, block_tokens, self.encode)
        return [
            Timed(
                t.traced.at_s or 0.0, t.traced.duration_s or 0.0, t.tokens,
                t.traced.output_tokens or 1, t.names, t.behind,
            )
            for t in made
        ]  # fmt: skip

    def streamed(self) -> StreamedTrace:
        """For a file with blocks of its own that is too large to hold."""

        def read() -> Iterator[tuple[Sequence[Hashable], int]]:
            self.rows.skipped = 0
            for traced in self.requests():
                yield traced.blocks, traced.input_tokens or 0

        return StreamedTrace(self.format.block_tokens or 1, read, self.format.full_only)

    @property
    def is_large(self) -> bool:
        return self.format.knows == "blocks" and self.rows.path.stat().st_size > LARGE_BYTES

    def say_skipped(self) -> None:
        if self.rows.skipped:
            note(f"{self.rows.skipped} bad lines left out, the first: {self.rows.first_skipped}")


def source(
    path: Path,
    format_name: str | None,
    load_tokenizer: Callable[[], ChatTokenizer] | None,
    skip_bad: bool,
    block_tokens: int | None = None,
) -> Source:
    """The file, not read yet; `load_tokenizer` for texts; `block_tokens`: of its blocks, by hand.
    UsageError for one that is none, for an unknown format, and for blocks that do not fit its
    prompts."""
    if format_name is not None and format_name not in FORMATS:
        raise UsageError(f"--format: '{format_name}' is none of {', '.join(FORMATS)}")
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    rows = Rows(path, skip_bad)
    if format_name:
        return Source(rows, traces.sized(FORMATS[format_name], path, block_tokens), load_tokenizer)
    if path.suffix in (".yaml", ".yml") or schedule_file.is_schedule(path):
        return Source(rows, SCHEDULE, load_tokenizer)
    return Source(rows, traces.detect(path, block_tokens), load_tokenizer)


def _planned(
    path: Path, encode: Callable[..., list[int] | None] | None, said: bool
) -> Iterator[Traced]:
    from aot.scripts.traffic import plan  # and servers with it, of which a trace knows nothing

    schedule = plan.schedule_of(path, encode)
    left_out = len(schedule.requests) - len(schedule.planned)
    if left_out:
        note(f"{left_out} turns left out: a server's own answers are in them, which are not known")
    if said and any(r.after for r in schedule.planned):
        note(
            "a turn follows its answer: at 4,000 prompt and 50 output tokens a second (--answer-s)"
        )
    for number, request in enumerate(schedule.planned, 1):
        messages, tools = schedule.chat_of(request)
        yield Traced(
            number,
            at_s=request.at_s,
            input_tokens=request.prompt_tokens,
            output_tokens=schedule.output_tokens(request),
            session=request.id,
            parent=request.after,
            joins=request.joins,
            think_s=request.think_s,
            messages=tuple(messages),
            tools=tools,
            body=request.body,
            endpoint=request.endpoint or schedule.endpoint,
        )


def service_of(answer_s: float | None, like: Path | None) -> Service | None:
    """How long answers take: every one so long, or as in a run; None: as logged, else what is
    usual. UsageError for both."""
    if answer_s is not None and like is not None:
        raise UsageError("--answer-s and --answers-like: one of them says how long answers take")
    if like is not None:
        return fitted(like)
    return None if answer_s is None else Service(answer_s, 0.0, 0.0)


def fitted(run: Path) -> Service:
    """As answers were in a run: its fit of TTFT over uncached tokens, which here is taken for all
    tokens of a prompt, and the median time per output token of its slowest arm.

    UsageError for a folder without them.
    """
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        prefill = summary["prefill"]
        per_token_s = [arm["tpot_s"]["p50"] for arm in summary["arms"].values()]
        output_s = max(s for s in per_token_s if s is not None)
        prompt_s = prefill["s_per_token"]
        if not (0 < prompt_s < math.inf and 0 < output_s < math.inf):
            raise ValueError
        return Service(max(0.0, prefill["fixed_s"]), prompt_s, output_s)
    except OSError:
        raise UsageError(f"--answers-like {run}: no summary.json; is it a run directory?") from None
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"--answers-like {run}: its report has no fit of TTFT over uncached tokens, or no time "
            "per output token (of one server, with arms that differ in what they find)"
        ) from None


def write_curve(trace: BlockTrace, block_tokens: int, path: Path, policy: str) -> None:
    """Of lru or leaf-lru: capacity_blocks, hit_blocks, hit_tokens, hit_ratio; a row for each
    capacity that gains."""
    curve = stack_distance.curve(regroup(trace, block_tokens), policy)
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
