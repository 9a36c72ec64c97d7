"""A trace → a schedule that can be replayed: its times, its lengths, its shared beginnings.

Blocks and parts of a trace have no text; each gets words of its own, as many as it has tokens, so
that equal names give equal text, and so equal blocks of an engine. Lengths are exact in the model's
tokens; `scale` makes them fit into its context.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.draws import Arrivals
from aot.workloads.logs import rounded_times
from aot.workloads.logs.interned import Interned
from aot.workloads.logs.sessions import Sessions
from aot.workloads.logs.traced import Traced
from aot.workloads.plan.arrivals import offsets
from aot.workloads.plan.draws import stream
from aot.workloads.plan.lexicon import OPENING, Lexicon
from aot.workloads.plan.static_texts import OTHER_OPENING, user
from aot.workloads.requests.request import FILLERS, Prefix, Request, Schedule, Tools
from aot.workloads.requests.tokens import common_prefix
from aot.workloads.traces import as_logged
from aot.workloads.traces.formats import Format

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
    fix_output: bool = False
    """Of a log of bodies: answers of the recorded length, rather than what the body asks for."""
    one_by_one: bool = False
    """A log without times is replayed one request after the other, rather than refused."""
    spread: bool = False
    """Times that the trace has rounded are spread over the step again."""
    learn: float = 0.0
    """Static parts are found in this share of the requests, which are not replayed; 0: in all of
    those that are."""


def schedule(
    requests: Iterator[Traced],
    format_: Format,
    name: str,
    options: Options,
    lexicon: Lexicon | None,
) -> Schedule:
    """The schedule of a trace. Raises UsageError for times that go backwards, for a trace without
    times and no `arrivals`, and where nothing is left of it."""
    if format_.knows == "messages" and options.scale != 1:
        raise UsageError(
            f"{name}: --scale: a trace of format {format_.name} has texts, whose length is theirs"
        )
    writer = _Writer(format_, options, lexicon)
    if format_.knows != "messages":
        _ = writer.lexicon  # said before anything else: without one nothing can be made of it
    shared_parts = Interned()
    held = (shared_parts.request(traced) for traced in requests)
    kept = _timed(list(_window(held, options)), name, options)
    if options.spread:
        kept, step = _spread(kept, name, options)
        writer.always.append(f"time: spread over the {step:g} s that times are rounded to")
    scheduled: list[Request] = []
    last_of: dict[str, str] = {}
    sessions = Sessions()
    for number, (at_s, traced) in enumerate(kept):
        request = writer.request(f"r{number:06d}", at_s, traced)
        before = last_of.get(traced.parent or traced.session or "")
        if traced.body is not None:
            goes_on = sessions.follows(request.id, request.prefix, traced.messages)
            before = before or goes_on
        if before is not None:
            # A turn waits for the one before.
            request = replace(request, after=before, think_s=traced.think_s / options.speed)
        if traced.session is not None:
            last_of[traced.session] = request.id
        scheduled.append(request)
    endpoints = Counter(r.endpoint or "chat" for r in scheduled)
    ((usual, _),) = endpoints.most_common(1)
    made = Schedule(
        name=name,
        seed=SEED,
        mode="closed" if options.one_by_one and kept[0][1].at_s is None else "open",
        users=1,
        max_tokens=max(r.max_tokens or 1 for r in scheduled),
        ignore_eos=writer.is_made,
        timeout_s=options.timeout_s,
        prefixes=writer.prefixes,
        requests=tuple(r if r.endpoint != usual else replace(r, endpoint=None) for r in scheduled),
        endpoint=usual,
    )
    return as_logged.learned(made, options.learn, writer.changes)


def _spread(
    kept: list[tuple[float, Traced]], name: str, options: Options
) -> tuple[list[tuple[float, Traced]], float]:
    """Rounded times over their step again, and the step in the trace's own seconds."""
    if options.arrivals is not None:
        raise UsageError(f"{name}: --spread is of the trace's own times, which --rate replaces")
    step = rounded_times.step_s([t.at_s or 0.0 for _, t in kept])
    if step is None:
        raise UsageError(f"{name}: --spread: its times are not rounded")
    at_s = [at for at, _ in kept]
    times = rounded_times.spread(at_s, step / options.speed, stream(SEED, "spread"))
    begin = times[0]
    return [(round(at - begin, 6), t) for at, (_, t) in zip(times, kept, strict=True)], step


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
    if options.one_by_one and all(t.at_s is None for t in kept):
        return [(0.0, t) for t in kept]
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
    """Writes the texts of one trace. `is_made`: some of them are made up; `changes`: what is sent
    otherwise than it was logged, by request."""

    def __init__(self, format_: Format, options: Options, lexicon: Lexicon | None) -> None:
        self.format, self.options, self._lexicon = format_, options, lexicon
        self.is_made = False
        self.always: list[str] = []
        """Of `changes`, what every request has."""
        self.changes: dict[str, list[str]] = {}
        self.prefixes: dict[str, Prefix] = {}
        self._texts: dict[Hashable, str] = {}

    @property
    def lexicon(self) -> Lexicon:
        """UsageError without one, for a trace that has no texts of its own."""
        if self._lexicon is None:
            raise UsageError(
                f"a trace of format {self.format.name} has lengths in tokens: name the model whose "
                "tokenizer counts: --model PATH"
            )
        return self._lexicon

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
        self.changes[id_] = [*self.always]
        if traced.body is not None:
            return self._logged(id_, at_s, traced)
        self.is_made = True
        output = self._output(traced)
        prefix = self._prefix(traced.tools)
        if traced.messages:
            return Request(id_, at_s, prefix, prefix, traced.messages, output)
        text, tokens = self._text(traced)
        return Request(id_, at_s, prefix, prefix, (user(text),), output, prompt_tokens=tokens)

    def _logged(self, id_: str, at_s: float, traced: Traced) -> Request:
        """A request as it was logged, but for what `changes` notes."""
        recorded = traced.output_tokens if self.options.fix_output else None
        if traced.answer is not None and (self.options.fix_output or not self.options.max_tokens):
            # A conversation says nothing else of how long its answers may be.
            one = [user(OPENING + " " + traced.answer)]
            recorded = max(1, self.lexicon.tokens(one) - self.base_tokens)
        sent = as_logged.sent(traced, recorded, self.options.max_tokens)
        self.changes[id_] += sent.changes
        prefix = self._prefix(traced.tools, sent.body.get("cache_salt"))
        return Request(
            id_, at_s, prefix, prefix, (), sent.max_tokens, body=sent.body,
            endpoint=traced.endpoint, served=traced.served,
        )  # fmt: skip

    def _prefix(self, tools: Tools, salt: str | None = None) -> str:
        for prefix in self.prefixes.values():
            if prefix.tools == tools and prefix.salt == salt:
                return prefix.id
        name = f"trace{len(self.prefixes) or ''}"
        first, second = ((user(text),) for text in FILLERS)
        self.prefixes[name] = Prefix(name, (), (first, second), tools, salt)
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
