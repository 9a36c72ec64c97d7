"""The nouns of planned traffic: messages, static prefixes, requests and the schedule of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Literal, NamedTuple

from aot.workloads.requests import body
from aot.workloads.requests.body import Message as Message  # the noun of all that follows

Tools = tuple[dict[str, Any], ...]
"""Tool schemas, as the chat API takes them."""


LEARNED_FROM = "not replayed: the static parts were found in them"
"""Of a log's `changes`."""
FILLERS = (
    "Alpha beta gamma delta, tell me more of it please.",
    "Zulu yankee xray whiskey: why so?",
)
"""Dynamic parts that no log has, and that part at their first letter."""
Which = Literal[0, 1, 2]
PROBES: tuple[Which, ...] = (0, 1, 2)
"""Prompts to warm with, and their dynamic parts."""


def probes(
    first: Sequence[Message], second: Sequence[Message]
) -> tuple[Sequence[Message], Sequence[Message], Sequence[Message]]:
    """Three dynamic parts: two, and the beginning of the first, which parts from the static part
    where they do, and ends where neither does."""
    last = first[-1]
    text = last["content"]
    pairs = zip(text, second[-1]["content"], strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    kept = max(shared + (len(text) - shared) // 3, shared + 1)
    return first, second, (*first[:-1], {**last, "content": text[:kept]})


class Chat(NamedTuple):
    """What one request sends."""

    messages: list[Message]
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class Prefix:
    """A static prefix: the messages that many requests start with.

    `probes` are two dynamic parts that no request uses: warming sends the first and verifies with
    the second, so that the cache never holds a measured request's own dynamic part beforehand.
    `salt` keeps its cache apart from that of other salts.
    """

    id: str
    messages: tuple[Message, ...]
    probes: tuple[tuple[Message, ...], tuple[Message, ...]]
    tools: Tools = ()
    salt: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of the chat template, where requests have some."""


@dataclass(frozen=True, slots=True)
class Served:
    """What the server of a log counted of a request. None: not logged."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One planned request: the prefix's messages followed by its own. `at_s`: planned offset.

    A turn of a session is due `think_s` seconds after the request `after` was answered, and not
    before `at_s`. With `appends` its chat is that of `after`, the answer to it as the server gave
    it, and its own messages; else its own messages are all that follows the prefix.
    """

    id: str
    at_s: float
    tenant: str
    prefix: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    """None: the schedule's."""
    after: str | None = None
    think_s: float = 0.0
    appends: bool = False
    joins: tuple[str, ...] = ()
    """Requests above that must have been answered too, before it is due: sub-tasks of an agent."""
    prompt_tokens: int | None = None
    """Planned, by the tokenizer that the texts were made for."""
    body: Mapping[str, Any] | None = None
    """Sent as it is, but for what the schedule's `changes` count: then there are no `messages`, and
    the prefix is what is found in it (for warming)."""
    endpoint: str | None = None
    """Which kind of endpoint the body is for; None: the schedule's."""
    served: Served | None = None
    """Of a log that has it."""
    cancel_s: float | None = None
    """So long after sending its client hangs up, where the answer is not complete."""
    retried: bool = False
    """Whether that client sends the same once more, at once, and waits for it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """All requests of a workload, with how to send them. Identical for every arm."""

    name: str
    seed: int
    mode: Literal["open", "closed"]
    users: int
    max_tokens: int
    ignore_eos: bool
    timeout_s: float
    prefixes: dict[str, Prefix]
    requests: tuple[Request, ...]
    think_s: float = 0.0
    """Closed loop: between a user's sessions."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Of parts of a request, in seconds, where they are not `timeout_s` (limits.py)."""
    endpoint: str = "chat"
    """Which kind of endpoint it is for (configs/dialects/table.py)."""
    changes: Mapping[str, int] = field(default_factory=dict)
    """Of a log: what is sent otherwise than it was logged, and in how many requests."""
    by_id: dict[str, Request] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {r.id: r for r in self.requests})

    def chat_of(self, request: Request, answers: Mapping[str, str] | None = None) -> Chat:
        """The whole chat of `request`: static prefix, history, dynamic suffix.

        `answers` are the server's own, by request; KeyError where one is needed that is not there.
        """
        if request.body is not None:
            return Chat(*body.chat(request.endpoint or self.endpoint, request.body))
        prefix = self.prefixes[request.prefix]
        own: list[tuple[Message, ...]] = [request.messages]
        turn = request
        while turn.appends and turn.after is not None:
            said = (answers or {})[turn.after]
            turn = self.by_id[turn.after]
            own.append((*turn.messages, {"role": "assistant", "content": said}))
        return Chat([*prefix.messages, *(m for part in reversed(own) for m in part)], prefix.tools)

    def arguments_of(self, request: Request) -> Mapping[str, Any]:
        """Arguments of the chat template that a request has of its own."""
        return (request.body or {}).get("chat_template_kwargs") or {}

    @property
    def planned(self) -> list[Request]:
        """Requests whose whole chat is known beforehand: no answer of the server is in it."""
        return [r for r in self.requests if not r.appends]

    def probe(self, prefix: Prefix, which: Which) -> Chat:
        """The whole chat of one of the prefix's probes."""
        return Chat([*prefix.messages, *probes(*prefix.probes)[which]], prefix.tools)

    def output_tokens(self, request: Request) -> int:
        """What `request` may generate."""
        return self.max_tokens if request.max_tokens is None else request.max_tokens
