"""A logged request as corrections take it: its tools and messages, as they stand in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aot.workloads.lint.seen import SALTS, compact
from aot.workloads.logs import bodies
from aot.workloads.logs.traced import Traced
from aot.workloads.requests import body


@dataclass(frozen=True, slots=True)
class Logged:
    """One request. `key`: what keeps its cache apart besides the text."""

    line: int
    key: str
    tools: tuple[str, ...]
    """Each as compact JSON with its keys in the order of the log."""
    messages: tuple[dict[str, Any], ...]

    def with_texts(self, texts: dict[int, str]) -> Logged:
        """The request with the content of some messages replaced."""
        if not texts:
            return self
        messages = list(self.messages)
        for n, text in texts.items():
            messages[n] = {**messages[n], "content": text}
        return replace(self, messages=tuple(messages))


def text_of(message: dict[str, Any]) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [p.get("text") or compact(p) if isinstance(p, dict) else str(p) for p in content]
        return "\n".join(map(str, parts))
    return ""


def of_body(logged: bodies.Logged, line: int) -> Logged:
    """A request of any endpoint, as its prompt."""
    messages, tools = body.chat(logged.endpoint, logged.body)
    key = "/".join(str(logged.body.get(k, "")) for k in SALTS)
    return Logged(line, key, tuple(sys.intern(compact(tool)) for tool in tools), tuple(messages))


def to_body(request: Logged, endpoint: str, sent: Mapping[str, Any]) -> dict[str, Any]:
    """The body `sent` with the prompt of `request`; the way back."""
    made = dict(sent)
    if not request.key:
        made = {k: v for k, v in made.items() if k not in SALTS}
    if request.tools:
        made["tools"] = [json.loads(tool) for tool in request.tools]
    messages = list(request.messages)
    if field := body.TEXTS.get(endpoint):
        made[field] = text_of(messages[-1])
        return made
    first = {"messages": "system", "responses": "instructions"}.get(endpoint)
    if first and sent.get(first):
        made[first] = messages.pop(0)["content"]
    given = sent.get("input")
    if endpoint == "responses":
        made["input"] = messages[0]["content"] if isinstance(given, str) else messages
    else:
        made["messages"] = messages
    return made


def as_logged(traced: Traced) -> Logged:
    """A request of a trace of texts, as corrections take it."""
    tools = tuple(sys.intern(compact(tool)) for tool in traced.tools)
    return Logged(traced.line, "", tools, tuple(dict(m) for m in traced.messages))


def as_traced(logged: Logged) -> Traced:
    """The way back."""
    messages = tuple({"role": str(m.get("role")), "content": text_of(m)} for m in logged.messages)
    return Traced(logged.line, messages=messages, tools=tuple(map(json.loads, logged.tools)))
