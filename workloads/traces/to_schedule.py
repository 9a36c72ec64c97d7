"""A trace → a schedule that can be replayed: its times, its lengths, its shared beginnings.

Blocks and parts of a trace have no text; each gets words of its own, as many as it has tokens, so
that equal names give equal text, and so equal blocks of an engine. Lengths are exact in the model's
tokens; `scale` makes them fit into its context.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.draws import Arrivals
from aot.workloads.plan.arrivals import offsets
from aot.workloads.plan.draws import stream
from aot.workloads.plan.lexicon import OPENING, Lexicon
from aot.workloads.plan.static_texts import OTHER_OPENING, PROBE_TOKENS, user
from aot.workloads.requests.request import Prefix, Request, Schedule, Tools
from aot.workloads.requests.tokens import common_prefix
from aot.workloads.traces.formats import Format
from aot.workloads.traces.traced import Traced

SEED = 1
UNKNOWN_OUTPUT_TOKENS = 16
"""Where neither the trace nor the user says."""
MOST_TOKENS = 4_000_000
"""Of one prompt: more is a scale that was not meant."""


@dataclass(frozen=True, slots=True)
class Options:
    """`speed` 2: twice as fast as logged. `window`: seconds of the trace's own time, from its first
    request. `arrivals`: for traces without times."""

    scale: float = 1.0
    speed: float = 1.0
    window_s: tuple[float, float] | None = None
    limit: int | None = None
    sort: bool = False
    arrivals: Arrivals | None = None
    max_tokens: int | None = None
    """For requests whose trace does not tell; and at most."""
    timeout_s: float = 300.0


def schedule(
    requests: Iterator[Traced], format_: Format, name: str, options: Options, lexicon: Lexicon
) -> Schedule:
    """The schedule of a trace. Raises UsageError for times that go backwards, for a trace without
    times and no `arrivals`, and where nothing is left of it."""
    if format_.knows == "messages" and options.scale != 1:
        raise UsageError(
            f"{name}: --scale: a trace of format {format_.name} has texts, whose length is theirs"
        )
    kept = _timed(list(_window(requests, options)), name, options)
    writer = _Writer(format_, options, lexicon)
    scheduled: list[Request] = []
    last_of: dict[str, str] = {}
    for number, (at_s, traced) in enumerate(kept):
        request = writer.request(f"r{number:06d}", at_s, traced)
        before = last_of.get(traced.parent or traced.session or "")
        if before is not None:
            request = replace(request, after=before)  # a turn waits for the one before
        if traced.session is not None:
            last_of[traced.session] = request.id
        scheduled.append(request)
    return Schedule(
        name=name,
        seed=SEED,
        mode="open",
        users=1,
        max_tokens=max(r.max_tokens or 1 for r in scheduled),
        ignore_eos=True,
        timeout_s=options.timeout_s,
        prefixes=writer.prefixes,
        requests=tuple(scheduled),
    )


def _window(requests: Iterator[Traced], options: Options) -> Iterator[Traced]:
    if options.sort:
        requests = iter(sorted(requests, key=lambda t: t.at_s or 0.0))
    begin: float | None = None
    count = 0
    for traced in requests:
        if options.limit is not None and count >= options.limit:
            return
        if options.window_s is not None and traced.at_s is not None:
            begin = traced.at_s if begin is None else begin
            low, high = options.window_s
            if traced.at_s - begin >= high:
                return  # what follows is later still
            if traced.at_s - begin < low:
                continue
        count += 1
        yield traced


def _timed(kept: list[Traced], name: str, options: Options) -> list[tuple[float, Traced]]:
    if not kept:
        raise UsageError(f"{name}: no request of it is in the window")
    if options.arrivals is not None:
        times = offsets(options.arrivals, len(kept), stream(SEED, "arrivals"))
        return list(zip(times, kept, strict=True))
    if any(t.at_s is None for t in kept):
        raise UsageError(f"{name}: its requests have no times; say how they arrive: --rate N")
    begin = kept[0].at_s or 0.0
    timed, latest = [], 0.0
    for traced in kept:
        at_s = round(((traced.at_s or 0.0) - begin) / options.speed, 6)
        if at_s < latest:
            raise UsageError(
                f"{name}:{traced.line}: its time is before that of the request above it "
                "(--sort puts them in order)"
            )
        latest = at_s
        timed.append((at_s, traced))
    return timed


class _Writer:
    """Writes the texts of one trace."""

    def __init__(self, format_: Format, options: Options, lexicon: Lexicon) -> None:
        self.format, self.options, self.lexicon = format_, options, lexicon
        self.prefixes: dict[str, Prefix] = {}
        self._texts: dict[Hashable, str] = {}

    @cached_property
    def base_tokens(self) -> int:
        """Tokens of a chat whose user says one word."""
        return self.lexicon.tokens([user(OPENING)])

    @cached_property
    def head_tokens(self) -> int:
        """Tokens before the words: the opening of the chat, and the user's first word."""
        first, second = (
            self.lexicon.encode([user(word)], ()) or [] for word in (OPENING, OTHER_OPENING)
        )
        return common_prefix(first, second) + 1

    def request(self, id_: str, at_s: float, traced: Traced) -> Request:
        """One request of the trace, under a prefix that only has the tools."""
        output = self._output(traced)
        prefix = self._prefix(traced.tools)
        if traced.messages:
            return Request(id_, at_s, prefix, prefix, traced.messages, output)
        text, tokens = self._text(traced)
        return Request(id_, at_s, prefix, prefix, (user(text),), output, prompt_tokens=tokens)

    def _prefix(self, tools: Tools) -> str:
        for prefix in self.prefixes.values():
            if prefix.tools == tools:
                return prefix.id
        name = f"trace{len(self.prefixes) or ''}"
        rng = stream(SEED, f"probes {name}")
        first, second = (
            (user(word + self.lexicon.words(PROBE_TOKENS, rng)),)
            for word in (OTHER_OPENING, OPENING)
        )
        self.prefixes[name] = Prefix(name, (), (first, second), tools)
        return name

    def _output(self, traced: Traced) -> int:
        """At least one token: a request that generates nothing cannot be sent."""
        most = self.options.max_tokens
        if traced.output_tokens is None:
            return most or UNKNOWN_OUTPUT_TOKENS
        output = self._scaled(traced.output_tokens)
        return output if most is None else min(output, most)

    def _scaled(self, tokens: int) -> int:
        return max(1, round(tokens * self.options.scale))

    def _text(self, traced: Traced) -> tuple[str, int]:
        """A user message, and the tokens of the whole prompt."""
        total = max(self.base_tokens, self._scaled(traced.input_tokens or 1))
        if total > MOST_TOKENS:
            raise UsageError(
                f"line {traced.line}: a prompt of {total:,} tokens; make them shorter with --scale"
            )
        words = total - self.base_tokens
        return OPENING + "".join(self._pieces(traced, words)), total

    def _pieces(self, traced: Traced, words: int) -> Iterator[str]:
        """`words` words in the pieces that the trace names. What the chat's frame takes is taken
        off the first one before it, and off the last one behind it."""
        left = words
        for name, tokens in self._named(traced):
            take = min(left, tokens)
            yield self._words(name, take)
            left -= take
        if left:
            yield self.lexicon.words(left, stream(SEED, f"piece {('rest', traced.line)}"))

    def _named(self, traced: Traced) -> Sequence[tuple[Hashable, int]]:
        match self.format.knows:
            case "blocks":
                # Blocks end where their scaled ends round to, so that rounding does not add up.
                size = (self.format.block_tokens or 1) * self.options.scale
                ends = [round((n + 1) * size) for n in range(len(traced.blocks))]
                # What the chat's frame takes before the words is taken off the first blocks.
                starts = [self.head_tokens, *(max(e, self.head_tokens) for e in ends[:-1])]
                sizes = [max(0, e - s) for s, e in zip(starts, ends, strict=True)]
                return list(zip(traced.blocks, sizes, strict=True))
            case "parts":
                return [((kind, name), self._scaled(n)) for kind, name, n in traced.parts]
        return []

    def _words(self, name: Hashable, count: int) -> str:
        text = self._texts.get((name, count))
        if text is None:
            text = self.lexicon.words(count, stream(SEED, f"piece {name}"))
            if count < 4096:
                self._texts[name, count] = text
        return text
