"""The nouns of planned traffic: messages, static prefixes, requests and the schedule of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Message = dict[str, str]
"""{"role": ..., "content": ...}"""

Tools = tuple[dict[str, Any], ...]
"""Tool schemas, as the chat API takes them."""


class Chat(NamedTuple):
    """What one request sends."""

    messages: list[Message]
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class Prefix:
    """A static prefix: the messages that many requests start with.

    `probes` are two dynamic parts that no request uses: warming sends the first and verifies with
    the second, so that the cache never holds a measured request's own dynamic part beforehand.
    """

    id: str
    messages: tuple[Message, ...]
    probes: tuple[tuple[Message, ...], tuple[Message, ...]]
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class Request:
    """One planned request: the prefix's messages followed by its own. `at_s`: planned offset."""

    id: str
    at_s: float
    tenant: str
    prefix: str
    messages: tuple[Message, ...]


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

    def chat_of(self, request: Request) -> Chat:
        """The whole chat of `request`: static prefix, then dynamic suffix."""
        prefix = self.prefixes[request.prefix]
        return Chat([*prefix.messages, *request.messages], prefix.tools)

    def probe(self, prefix: Prefix, which: Literal[0, 1]) -> Chat:
        """The whole chat of one of the prefix's two probes."""
        return Chat([*prefix.messages, *prefix.probes[which]], prefix.tools)
