"""A log of chat requests (JSON lines), as lint reads it: chat bodies, bare or wrapped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.workloads.traces.file import Rows
from aot.workloads.traces.traced import Traced

WRAPPERS = ("body", "request", "params", "input", "payload")
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
    for number, row in rows.json_lines():
        try:
            log.append(request(row, number))
        except ValueError as error:
            rows.bad(number, str(error))
    if not log:
        raise UsageError(f"{path}: no request in it")
    return log


def request(body: dict[str, Any], number: int) -> Logged:
    """A chat body, bare or wrapped. ValueError naming the field that is missing or wrong."""
    for _ in WRAPPERS:
        if "messages" in body:
            break
        body = next((body[k] for k in WRAPPERS if isinstance(body.get(k), dict)), body)
    if isinstance(body.get("prompt"), str):
        body = {**body, "messages": [{"role": "user", "content": body["prompt"]}]}
    messages, tools = _messages(body.get("messages")), _tools(body.get("tools") or [])
    if body.get("system"):  # as the Anthropic API has it
        messages = [{"role": "system", "content": body["system"]}, *messages]
    key = "/".join(str(body.get(k, "")) for k in KEYS)
    dumped = tuple(sys.intern(_dump(tool)) for tool in tools)
    return Logged(number, key, dumped, tuple(messages))


def _messages(messages: Any) -> list[dict[str, Any]]:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise ValueError(
            "field 'messages' is missing or no list of messages; expected a chat request a line"
        )
    for n, message in enumerate(messages):
        if not isinstance(message.get("role"), str | None):
            raise ValueError(f"messages[{n}].role is no text")
        if not isinstance(message.get("content"), str | list | None):
            raise ValueError(f"messages[{n}].content is no text and no list of parts")
        if isinstance(content := message.get("content"), str) and not content.isascii():
            _check_text(content, f"messages[{n}].content")
    return messages


def _check_text(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{field} has half a character in it: {error.reason}") from None


def _tools(tools: Any) -> list[dict[str, Any]]:
    if not isinstance(tools, list) or not all(isinstance(t, dict) for t in tools):
        raise ValueError("field 'tools' is no list of tool schemas")
    return tools


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
