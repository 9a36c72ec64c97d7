"""What a log says of prefix caching: what is found, what could be, what breaks it, what a cache
must hold, and which beginnings are worth compiling."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from aot.analysis.cache import stack_distance
from aot.configs.kernel.chains import common
from aot.configs.kernel.errors import UsageError
from aot.scripts.prompts import linting
from aot.scripts.traffic import oracle, plan
from aot.workloads.lint import as_blocks, seen
from aot.workloads.lint import log as lint_log
from aot.workloads.lint.flaw import Flaw
from aot.workloads.lint.seen import Seen, compact
from aot.workloads.logs.shared import root_of
from aot.workloads.requests.request import Prefix, Schedule
from aot.workloads.traces import formats
from aot.workloads.traces.blocks import BlockTrace
from aot.workloads.traces.in_time import CHARACTERS_PER_TOKEN

SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Of what an unbounded cache finds: how large a cache must be for so much of it."""
MOST_PREFIXES = 5
BLOCK_TOKENS = 16
"""vLLM's on a GPU, where no server says another."""


@dataclass(frozen=True, slots=True)
class Needed:
    """A cache of `capacity_tokens` finds `share` of what an unbounded one does."""

    share: float
    capacity_tokens: int


@dataclass(frozen=True, slots=True)
class Beginning:
    """A static part that several sessions begin with. `tokens` as those of LogAnswer."""

    name: str
    tokens: int
    requests: int
    begins: str

    @property
    def spared_tokens(self) -> int:
        """If all requests but the first find it."""
        return self.tokens * (self.requests - 1)


@dataclass(frozen=True, slots=True)
class LogAnswer:
    """Ratios are of prompt tokens; None: not known. Tokens are by the log's own counts where it has
    them for most requests (`counted`), else from characters."""

    log: str
    requests: int
    sessions: int | None
    seconds: float | None
    """From the first request to the last."""
    tokens: int
    counted: bool
    served_hit_ratio: float | None
    """What the log's own server found."""
    reachable_hit_ratio: float
    """What a cache without an end finds."""
    mended_hit_ratio: float | None
    """The same, were nothing lost to the flaws; None where there are no texts."""
    flaws: tuple[Flaw, ...]
    needed: tuple[Needed, ...]
    beginnings: tuple[Beginning, ...]
    block_tokens: int
    bad_lines: int
    first_bad_line: str | None
    models: tuple[str, ...] = ()
    """That its requests name."""
    not_looked_up: int = 0
    """Requests for which an engine looks nothing up."""
    curve: tuple[tuple[int, float], ...] = ()
    """(capacity in tokens, hit ratio), ascending."""

    def at(self, capacity_tokens: int) -> float:
        """The hit ratio in a cache of that size: so much of `reachable_hit_ratio` as the curve has
        there, whose blocks are of characters, of its own end."""
        most = self.curve[-1][1] if self.curve else 0.0
        there = max((r for c, r in self.curve if c <= capacity_tokens), default=0.0)
        return self.reachable_hit_ratio * there / most if most else 0.0

    def as_json(self) -> dict[str, Any]:
        made = asdict(self) | {"flaws": [f.as_json() for f in self.flaws]}
        made["curve"] = [list(point) for point in _thinned(self.curve)]
        made["beginnings"] = [
            asdict(b) | {"spared_tokens": b.spared_tokens} for b in self.beginnings
        ]
        return made


def of_log(
    path: Path,
    model: str | None = None,
    block_tokens: int | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> LogAnswer:
    """The answer of one log or trace. UsageError for a file that is none, and for one without any
    information on which prompts begin alike."""
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    gc.disable()  # millions of small objects, and no cycles among them
    try:
        if not plan.is_log(path):
            raise UsageError(
                f"{path}: is no log, but a workload or a schedule; 'aot oracle {path}' says what a "
                "cache finds on it"
            )
        if _format(path).knows != "messages":
            return _of_blocks(path, block_tokens)
        return _of_texts(path, model, block_tokens or BLOCK_TOKENS, report)
    finally:
        gc.enable()


def _format(path: Path) -> formats.Format:
    try:
        return formats.detect(path)
    except UsageError as error:
        if "no known trace format" not in str(error):
            raise
        raise UsageError(
            f"{path}: nothing in it is known as a request or as a trace; a log has a JSON object a "
            "line, with what was sent ('aot capture' writes one)"
        ) from None


def _of_blocks(path: Path, block_tokens: int | None) -> LogAnswer:
    """Of a trace that has blocks instead of texts."""
    source = oracle.source(path, None, None, skip_bad=True, block_tokens=block_tokens)
    trace = source.blocks(block_tokens)
    curve, total = _curve(trace), int(trace.input_tokens.sum())
    rows = source.rows
    return LogAnswer(
        str(path), len(trace), None, None, total, True, None, _most(curve), None, (),
        _needed(curve), (), trace.block_tokens, rows.skipped, rows.first_skipped, curve=curve,
    )  # fmt: skip


def _of_texts(
    path: Path, model: str | None, block_tokens: int, report: Callable[[str], None]
) -> LogAnswer:
    report("reading")
    log, rows = seen.read(path)
    scale, counted = tokens_per_character(log, model)
    report("what breaks reuse")
    found = lint_log.lint(log, linting.from_root(path), scale, lint_log.Server(block_tokens))
    report("what a cache must hold")
    curve = _curve(as_blocks.block_trace(log, block_tokens, scale))
    seconds, models = _span_s(log), sorted({r.apart["model"] for r in log if "model" in r.apart})
    del log
    report("which beginnings are worth compiling")
    schedule = plan.schedule_of(path)
    return LogAnswer(
        log=str(path),
        requests=found.requests,
        sessions=sum(r.after is None for r in schedule.requests),
        seconds=seconds,
        tokens=round(found.tokens),
        counted=counted,
        served_hit_ratio=found.served_ratio,
        reachable_hit_ratio=found.hit_ratio,
        mended_hit_ratio=1 - found.ideal_tokens / found.tokens if found.tokens else 0.0,
        flaws=tuple(_to_mend(found.flaws)),
        needed=_needed(curve),
        beginnings=tuple(_beginnings(schedule, scale, block_tokens)),
        block_tokens=block_tokens,
        bad_lines=rows.skipped,
        first_bad_line=rows.first_skipped,
        models=tuple(models),
        not_looked_up=sum(_is_not_looked_up(r.body or {}) for r in schedule.requests),
        curve=curve,
    )


def _to_mend(flaws: Sequence[Flaw]) -> list[Flaw]:
    """Without what only follows from another: what is shared is short where a flaw breaks it."""
    broken = any(f.level == "error" for f in flaws)
    return [f for f in flaws if not (broken and f.rule == "short-prefix")]


def tokens_per_character(log: Sequence[Seen], model: str | None) -> tuple[float, bool]:
    """By the counts of the log's own server, where it has some for most; else by a sample in the
    model's tokenizer, else by what is usual. And whether they were counted."""
    known = [r for r in log if r.served and r.served.prompt_tokens]
    characters = sum(r.characters for r in known)
    if 2 * len(known) >= len(log) and characters:
        return sum(r.served.prompt_tokens or 0 for r in known if r.served) / characters, True
    if model:
        tokenizer = linting.Options.of(model, 1, None, {}).tokenizer
        sample = "".join(text for r in log[: linting.SAMPLE] for _, text in r.parts)
        if tokenizer and sample:
            return tokenizer.count(sample) / len(sample), False
    return 1 / CHARACTERS_PER_TOKEN, False


def _is_not_looked_up(body: Mapping[str, Any]) -> bool:
    """Probabilities of the prompt's tokens need all of them computed (vLLM:
    skip_reading_prefix_cache in sampling_params.py)."""
    echoed = bool(body.get("echo")) and body.get("logprobs") is not None
    return echoed or body.get("prompt_logprobs") is not None


def _span_s(log: Sequence[Seen]) -> float | None:
    times = [r.at_s for r in log if r.at_s is not None]
    return max(times) - min(times) if log and len(times) == len(log) else None


def _curve(trace: BlockTrace) -> tuple[tuple[int, float], ...]:
    """Of vLLM's own order, where one pass tells it; else of LRU."""
    policy = "leaf-lru" if stack_distance.knows(trace, "leaf-lru") else "lru"
    curve = stack_distance.curve(trace, policy)
    total = int(trace.input_tokens.sum()) or 1
    pairs = zip(curve.capacity_blocks.tolist(), curve.hit_tokens.tolist(), strict=True)
    return tuple((blocks * trace.block_tokens, hit / total) for blocks, hit in pairs)


def _most(curve: Sequence[tuple[int, float]]) -> float:
    return curve[-1][1] if curve else 0.0


def _needed(curve: Sequence[tuple[int, float]]) -> tuple[Needed, ...]:
    most = _most(curve)
    if not most:
        return ()
    return tuple(
        Needed(share, next(c for c, ratio in curve if ratio >= share * most)) for share in SHARES
    )


MOST_POINTS = 60


def _thinned(curve: Sequence[tuple[int, float]]) -> Sequence[tuple[int, float]]:
    step = max(1, len(curve) // MOST_POINTS)
    return [*curve[::step], *curve[-1:]] if curve else []


def _beginnings(schedule: Schedule, scale: float, block_tokens: int) -> list[Beginning]:
    """Those that spare most, the largest first."""
    groups: dict[str, list[Any]] = {}
    for request in schedule.requests:
        groups.setdefault(request.prefix, []).append(request)
    found = []
    for prefix in schedule.prefixes.values():
        requests = groups.get(prefix.id, [])
        if len({root_of(schedule, r) for r in requests}) < 2:
            continue
        text = _shared(schedule, prefix)
        tokens = round(len(text) * scale) // block_tokens * block_tokens
        if tokens:
            begins = " ".join(text.split("\x1e")[-1].split())[:60]
            found.append(Beginning(prefix.id, tokens, len(requests), begins))
    return sorted(found, key=lambda b: -b.spared_tokens)[:MOST_PREFIXES]


def _shared(schedule: Schedule, prefix: Prefix) -> str:
    """What its two probes begin with alike, tools included, as it is rendered for comparison."""
    one, other = (schedule.probe(prefix, which).messages for which in (0, 1))
    tools = compact(list(prefix.tools)) if prefix.tools else ""
    texts = [tools + "".join(str(m.get("content") or "") for m in chat) for chat in (one, other)]
    return texts[0][: common(*texts)]
