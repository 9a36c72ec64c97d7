"""Scenarios whose requests build on each other: multi-turn chats and agents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aot.configs.schema.workload import Agent, MultiTurn
from aot.workloads.plan import draws
from aot.workloads.plan.draws import stream
from aot.workloads.plan.lexicon import OPENING
from aot.workloads.plan.single_turn import Parts, arrivals, outputs, tenant_prefixes
from aot.workloads.plan.static_texts import StaticTexts, user
from aot.workloads.requests.request import Message, Request

SUB_TASK_STEPS = 3
"""Steps of a branch that an agent forks."""


@dataclass(slots=True)
class _Talk:
    """The requests of one session, in order."""

    prefix: str
    requests: list[Request] = field(default_factory=list)


class _Writer:
    """Draws the turns of sessions and writes them down."""

    def __init__(self, config: MultiTurn | Agent, texts: StaticTexts) -> None:
        self.config, self.texts = config, texts
        self.lexicon = texts.lexicon
        self.lengths = stream(config.seed, "lengths")
        self.words = stream(config.seed, "words")
        self.thinking = stream(config.seed, "think")
        self.beginnings = stream(config.seed, "beginnings")
        self.compactions = stream(config.seed, "compaction")
        self.limits = outputs(config)
        self.seam_tokens = self._seam()

    def _seam(self) -> int:
        """Tokens that one more turn adds besides the words of the answer and of the question."""
        said: Message = {"role": "assistant", "content": OPENING}
        once = self.lexicon.tokens([user(OPENING)])
        twice = self.lexicon.tokens([user(OPENING), said, user(OPENING)])
        return twice - once - 2

    def turn(
        self, talk: _Talk, at_s: float, before: Request | None, joins: tuple[str, ...] = ()
    ) -> Request:
        """The next request behind `before` (None: the first), added to `talk`; it waits for `joins`
        as well."""
        anew = before is None or self._begins_anew()
        tokens = self._tokens(anew)
        asked = user(OPENING + self.lexicon.words(tokens - 1, self.words))
        request = Request(
            "", at_s, talk.prefix, talk.prefix, (asked,), next(self.limits),
            prompt_tokens=self.config.static_tokens + self.texts.tail_tokens - 1 + tokens,
        )  # fmt: skip
        if before is not None:
            think_s = round(draws.value(self.config.turns.think_s, self.thinking), 3)
            request = replace(request, after=before.id, think_s=think_s, joins=joins)
        if before is not None and not anew:
            request = self._behind(request, before, tokens)
        # Its place in the talk stands for its id until all are numbered.
        request = replace(request, id=str(len(talk.requests)))
        talk.requests.append(request)
        return request

    def _begins_anew(self) -> bool:
        """Whether an agent sums up what was said and goes on from there."""
        share = self.config.compaction if isinstance(self.config, Agent) else 0.0
        return bool(share) and self.compactions.random() < share

    def _tokens(self, anew: bool) -> int:
        """Of what a step adds."""
        if anew and isinstance(self.config, Agent) and self.config.first_tokens is not None:
            return draws.count(self.config.first_tokens, self.beginnings)
        return draws.count(self.config.dynamic_tokens, self.lengths)

    def _behind(self, request: Request, before: Request, tokens: int) -> Request:
        if self.config.turns.answers == "real":
            return replace(request, appends=True, prompt_tokens=None)
        # What an answer thought is generated, and is in no later prompt.
        answer = max(1, round((before.max_tokens or 1) * (1 - self.config.turns.thinking)))
        said: Message = {
            "role": "assistant",
            "content": OPENING + self.lexicon.words(answer - 1, self.words),
        }
        longer = (before.prompt_tokens or 0) + answer + self.seam_tokens + tokens
        return replace(
            request, messages=(*before.messages, said, *request.messages), prompt_tokens=longer
        )


def multi_turn(config: MultiTurn, texts: StaticTexts) -> Parts:
    """Chats: each turn has all turns before it in front of it."""
    return _drawn(config, texts)


def agent(config: Agent, texts: StaticTexts) -> Parts:
    """Tool loops: a long chain of steps, some of which fork a sub-task of a few."""
    return _drawn(config, texts)


def _drawn(config: MultiTurn | Agent, texts: StaticTexts) -> Parts:
    prefixes = tenant_prefixes(config.tenants, config.static_tokens, texts)
    writer, forks = _Writer(config, texts), stream(config.seed, "branching")
    sides = stream(config.seed, "branches")
    lengths, names = _lengths(config), list(prefixes)
    owner = draws.zipf(len(names), config.tenants.zipf, stream(config.seed, "tenants"))
    talks = []
    for at_s, length in zip(arrivals(config, len(lengths)), lengths, strict=True):
        talk = _Talk(names[owner()])
        last: Request | None = None
        joins: tuple[str, ...] = ()
        while len(talk.requests) < length:
            last, joins = writer.turn(talk, at_s, last, joins), ()
            if isinstance(config, Agent) and forks.random() < config.branching:
                count = draws.count(config.branches, sides)
                ends = [_sub_task(writer, talk, at_s, last, length) for _ in range(count)]
                joins = tuple(e for e in ends if e is not None) if config.waits else ()
        talks.append(talk)
    return prefixes, _numbered(talks)


def _sub_task(
    writer: _Writer, talk: _Talk, at_s: float, parent: Request, length: int
) -> str | None:
    """A few steps behind `parent`, as far as the session is not `length` long; the last one."""
    branch = parent
    for _ in range(min(SUB_TASK_STEPS, length - len(talk.requests))):
        branch = writer.turn(talk, at_s, branch)
    return None if branch is parent else branch.id


def _lengths(config: MultiTurn | Agent) -> list[int]:
    """Requests of each session, `requests` in all: the last one may be cut short."""
    rng = stream(config.seed, "turns")
    lengths: list[int] = []
    left = config.requests
    while left:
        lengths.append(min(left, draws.count(config.turns.count, rng)))
        left -= lengths[-1]
    return lengths


def _name(first: int, place: str) -> str:
    return f"r{first + int(place):06d}"


def _numbered(talks: list[_Talk]) -> list[Request]:
    """All requests in the order of the schedule, under names of their own."""
    requests: list[Request] = []
    for talk in talks:
        first = len(requests)
        for n, request in enumerate(talk.requests):
            after = None if request.after is None else _name(first, request.after)
            joins = tuple(_name(first, place) for place in request.joins)
            requests.append(replace(request, id=f"r{first + n:06d}", after=after, joins=joins))
    return requests
