"""What a log would look like had its tools always been written alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from aot.workloads.corrections.logged import Logged, text_of

Log = Sequence[Logged]


def tool_order(log: Log) -> list[Logged]:
    """Tools by name."""
    return [replace(r, tools=tuple(sorted(r.tools, key=_tool_name))) if r.tools else r for r in log]


def key_order(log: Log) -> list[Logged]:
    """Tool schemas with their keys sorted."""
    return [
        replace(r, tools=tuple(_sorted_keys(t) for t in r.tools)) if r.tools else r for r in log
    ]


@cache
def _sorted_keys(tool: str) -> str:
    return json.dumps(json.loads(tool), sort_keys=True, separators=(",", ":"))


def tools_fixed(log: Log) -> list[Logged]:
    """Every request with all the tools that any of them has, in the order of first use."""
    everything: dict[str, str] = {}
    for request in log:
        for tool in request.tools:
            everything.setdefault(_tool_name(tool), tool)
    fixed = tuple(everything.values())
    names = set(everything)
    return [
        replace(r, tools=fixed) if r.tools and {_tool_name(t) for t in r.tools} != names else r
        for r in log
    ]


@cache
def _tool_name(tool: str) -> str:
    schema = json.loads(tool)
    if not isinstance(schema, dict):
        return tool
    inner = schema.get("function")
    return str((inner if isinstance(inner, dict) else schema).get("name", ""))


def replayed_bytes(log: Log) -> list[Logged]:
    """Tool calls and results in one canonical form."""

    def canonical(message: dict[str, Any]) -> dict[str, Any]:
        corrected = dict(message)
        if calls := message.get("tool_calls"):
            corrected["tool_calls"] = [_canonical_call(c) for c in calls]
        if message.get("role") == "tool":
            corrected["content"] = _canonical_json(text_of(message))
        return corrected

    return [
        replace(r, messages=tuple(canonical(m) for m in r.messages))
        if any(m.get("tool_calls") or m.get("role") == "tool" for m in r.messages)
        else r
        for r in log
    ]


def _canonical_call(call: Any) -> Any:
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    function = call["function"]
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    kept = {"id": call.get("id"), "name": function.get("name")}
    return {**kept, "arguments": _canonical_json(text)}


def _canonical_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text


def numbered_calls(log: Log) -> list[Logged]:
    """Ids of tool calls by their number in the conversation: the same in every turn."""
    return [_numbered(request) for request in log]


def _numbered(request: Logged) -> Logged:
    names: dict[str, str] = {}

    def named(id_: Any) -> Any:
        return names.setdefault(id_, f"call_{len(names)}") if isinstance(id_, str) else id_

    made = []
    for message in request.messages:
        corrected = dict(message)
        if isinstance(calls := message.get("tool_calls"), list):
            corrected["tool_calls"] = [
                {**c, "id": named(c["id"])} if isinstance(c, dict) and "id" in c else c
                for c in calls
            ]
        for field in ("tool_call_id", "call_id"):
            if field in message:
                corrected[field] = named(message[field])
        made.append(corrected)
    return replace(request, messages=tuple(made)) if names else request
