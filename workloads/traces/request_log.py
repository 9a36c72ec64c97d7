"""A log of requests, as lint reads it: the parts of prompts, in the order in which they stand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.workloads.logs import bodies, telemetry
from aot.workloads.logs.file import Rows
from aot.workloads.logs.traced import Traced
from aot.workloads.requests import body

KEYS = ("cache_salt", "extra_key", "prompt_cache_key")


@dataclass(frozen=True, slots=True)
class Logged:
    """One request. `key`: what keeps its cache apart besides the text."""

    line: int
    key: str
    tools: tuple[str, ...]
    """Each as compact JSON with its keys in the order of the log."""
    messages: tuple[dict[str, Any], ...]

    def fields(self) -> Iterator[tuple[str, str]]:
        """(name, text) of every part, in the order in which templates render them."""
        for n, tool in enumerate(self.tools):
            yield f"tools[{n}]", tool
        for n, message in enumerate(self.messages):
            yield f"messages[{n}].role", str(message.get("role"))
            yield f"messages[{n}].content", text_of(message)
            if calls := message.get("tool_calls"):
                yield f"messages[{n}].tool_calls", calls if isinstance(calls, str) else _dump(calls)

    def texts(self) -> Iterator[str]:
        """The same without the names, for those who go through a log many times."""
        yield from self.tools
        for message in self.messages:
            yield message.get("role") or ""
            content = message.get("content")
            yield content if isinstance(content, str) else text_of(message)
            if calls := message.get("tool_calls"):
                yield calls if isinstance(calls, str) else _dump(calls)

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
        parts = [p.get("text") or _dump(p) if isinstance(p, dict) else str(p) for p in content]
        return "\n".join(map(str, parts))
    return ""


def read(path: Path) -> list[Logged]:
    """The log. Raises UsageError naming file and line for what is no chat request."""
    rows = Rows(path)
    log = []
    for number, row in rows.objects():
        try:
            log += [request(one, number) for one in telemetry.spans(row)]
        except ValueError as error:
            rows.bad(number, str(error))
    if not log:
        raise UsageError(f"{path}: no request in it")
    return log


def request(row: Mapping[str, Any], number: int) -> Logged:
    """A request of any endpoint, bare or in whatever is around it. ValueError naming the field that
    is missing or wrong."""
    endpoint, sent = bodies.request(row)
    messages, tools = body.chat(endpoint, sent)
    key = "/".join(str(sent.get(k, "")) for k in KEYS)
    return Logged(number, key, tuple(sys.intern(_dump(tool)) for tool in tools), tuple(messages))


def as_logged(traced: Traced) -> Logged:
    """A request of a trace of texts, as corrections take it."""
    tools = tuple(sys.intern(_dump(tool)) for tool in traced.tools)
    return Logged(traced.line, "", tools, tuple(dict(m) for m in traced.messages))


def as_traced(logged: Logged) -> Traced:
    """The way back."""
    messages = tuple({"role": str(m.get("role")), "content": text_of(m)} for m in logged.messages)
    return Traced(logged.line, messages=messages, tools=tuple(map(json.loads, logged.tools)))


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
