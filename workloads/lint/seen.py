"""A logged request as its server saw it: every part that decides what is found in a cache, by its
place in the body, and what keeps its cache apart from that of others."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.workloads.logs import bodies
from aot.workloads.logs.bodies import Logged
from aot.workloads.logs.file import Rows
from aot.workloads.requests.body import TEXTS
from aot.workloads.requests.request import Served

Part = tuple[str, str]
"""(path in the body, text)."""
SALTS = ("cache_salt", "extra_key", "prompt_cache_key")
APART = (
    "model", "lora_name", "lora_path", "adapter", *SALTS, "chat_template_kwargs",
    "reasoning_effort", "reasoning", "thinking", "chat_template",
)  # fmt: skip
"""Fields of a body under which blocks are found by others with the same ones only: the model and
its adapter, salts, and what changes how its chat template begins."""
NESTED = ("model_parameters", "optional_params", "extra_body", "parameters", "invocation_params")
"""Where loggers put fields of a body that they do not know."""
SYSTEM = ("system", "developer")
TOOLS = ("tools", "functions")
"""Fields that have tool schemas, and beginnings of their paths."""
REASONING = ("reasoning_content", "reasoning", "thinking")


@dataclass(frozen=True, slots=True)
class Seen:
    """`apart`: the fields of APART that it has, as text. `answer`: what the server said, as the
    next turn would have it; empty where it was not logged."""

    line: int
    apart: Mapping[str, str]
    parts: tuple[Part, ...]
    session: str | None = None
    served: Served | None = None
    answer: tuple[Part, ...] = ()
    at_s: float | None = None

    @property
    def key(self) -> str:
        return compact(self.apart) if self.apart else ""

    @property
    def head(self) -> int:
        """How many parts stand before the conversation: tools, documents, system messages."""
        for n, (path, text) in enumerate(self.parts):
            if path in ("prompt", "text") or (path.endswith(".role") and text not in SYSTEM):
                return n
        return len(self.parts)

    @property
    def characters(self) -> int:
        return sum(len(text) for _, text in self.parts)


def read(path: Path) -> tuple[list[Seen], Rows]:
    """The requests of a log, and the rows, which count the bad lines that were left out. Raises
    UsageError naming file and line for a file without any request."""
    rows = Rows(path, skip_bad=True)
    log = [of(logged, number, row) for number, row, logged in bodies.each(rows)]
    if not log:
        first = f": {rows.first_skipped}" if rows.first_skipped else ""
        raise UsageError(f"{path}: no request in it{first}")
    return log, rows


def of(logged: Logged, line: int, row: Mapping[str, Any]) -> Seen:
    """A request of any endpoint."""
    body = dict(logged.body)
    for name in NESTED:
        if isinstance(inner := body.get(name), Mapping):
            body = {**inner, **body}
    apart = {k: _text(body[k]) for k in APART if body.get(k) is not None}
    # No content and an empty one are the same to a template.
    parts = tuple((sys.intern(p), sys.intern(t)) for p, t in _parts(logged.endpoint, body) if t)
    said = tuple(_answer(row.get("response"), len(_items(logged.endpoint, body))))
    return Seen(line, apart, parts, logged.session, logged.served, said, logged.at_s)


def _parts(endpoint: str, body: Mapping[str, Any]) -> Iterator[Part]:
    """In the order in which templates render them."""
    for field in TOOLS:
        for n, tool in enumerate(body.get(field) or ()):
            yield f"{field}[{n}]", _tool(tool)
    for n, document in enumerate(body.get("documents") or ()):
        yield f"documents[{n}]", _text(document)
    for field in ("system", "instructions"):
        if body.get(field):
            yield from _content(field, body[field])
    if (text := TEXTS.get(endpoint)) is not None:
        yield text, str(body[text])
        return
    name = "input" if endpoint == "responses" else "messages"
    for n, item in enumerate(_items(endpoint, body)):
        yield from _message(f"{name}[{n}]", item)


def _items(endpoint: str, body: Mapping[str, Any]) -> Sequence[Any]:
    if endpoint == "responses":
        given = body.get("input") or []
        return [{"role": "user", "content": given}] if isinstance(given, str) else given
    return body.get("messages") or []


def _message(path: str, item: Mapping[str, Any]) -> Iterator[Part]:
    yield f"{path}.role", str(item.get("role") or item.get("type"))
    if item.get("name"):
        yield f"{path}.name", str(item["name"])
    for field in REASONING:
        if item.get(field):
            yield f"{path}.{field}", _text(item[field])
    if item.get("content") is not None:
        yield from _content(f"{path}.content", item["content"])
    for n, call in enumerate(item.get("tool_calls") or ()):
        yield from _call(f"{path}.tool_calls[{n}]", call)
    for field in ("tool_call_id", "function_call", "arguments", "output", "call_id"):
        if item.get(field) is not None:
            yield f"{path}.{field}", _text(item[field])


def _content(path: str, content: Any) -> Iterator[Part]:
    if not isinstance(content, list):
        yield path, _text(content)
        return
    for n, block in enumerate(content):
        if isinstance(block, Mapping) and isinstance(block.get("text"), str):
            yield f"{path}[{n}].text", block["text"]
        elif isinstance(block, Mapping):
            # Where a provider is told to cache is no part of the prompt.
            yield f"{path}[{n}]", compact({k: v for k, v in block.items() if k != "cache_control"})
        else:
            yield f"{path}[{n}]", _text(block)


def _call(path: str, call: Any) -> Iterator[Part]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        yield path, _text(call)
        return
    yield f"{path}.id", str(call.get("id"))
    yield f"{path}.function.name", str(function.get("name"))
    yield f"{path}.function.arguments", _text(function.get("arguments"))


def _answer(response: Any, number: int) -> Iterator[Part]:
    """The parts of an answer, at the place that it has in the next turn."""
    if not isinstance(response, Mapping):
        return
    if isinstance(inner := response.get("body"), Mapping):
        response = inner
    choices = response.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        said = choices[0].get("message")
        if isinstance(said, Mapping):
            yield from _message(f"messages[{number}]", said)


def _tool(tool: Any) -> str:
    if isinstance(tool, Mapping) and "cache_control" in tool:
        tool = {k: v for k, v in tool.items() if k != "cache_control"}
    return _text(tool)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)


def compact(value: Any) -> str:
    """As JSON, its keys in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
