"""Requests as tracing tools keep them: OpenTelemetry's GenAI attributes, Langfuse's traces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

INPUTS = ("gen_ai.input.messages", "gen_ai.prompt")
SYSTEM = "gen_ai.system_instructions"
TOOLS = "gen_ai.tool.definitions"
SETTINGS = {
    "gen_ai.request.model": "model", "gen_ai.request.max_tokens": "max_tokens",
    "gen_ai.request.temperature": "temperature", "gen_ai.request.top_p": "top_p",
    "gen_ai.request.seed": "seed", "gen_ai.request.stop_sequences": "stop",
    "gen_ai.request.frequency_penalty": "frequency_penalty",
    "gen_ai.request.presence_penalty": "presence_penalty",
}  # fmt: skip
COUNTS = {
    "gen_ai.usage.input_tokens": "prompt_tokens", "gen_ai.usage.output_tokens": "completion_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
}  # fmt: skip


def spans(row: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The spans of an OTLP export, which has many in one object; any other row as it is."""
    groups = row.get("resourceSpans")
    if not isinstance(groups, list):
        yield row
        return
    for group in _objects(groups, "resourceSpans"):
        for scope in _objects(group.get("scopeSpans") or [], "scopeSpans"):
            yield from _objects(scope.get("spans") or [], "spans")


def as_body(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row with 'body', times and 'usage', of a span or an observation; None for another row.
    ValueError for one whose messages cannot be read."""
    if isinstance(row.get("attributes"), dict | list):
        return _span(row, _attributes(row["attributes"]))
    if "modelParameters" in row or ("traceId" in row and "input" in row):
        return _observation(row)
    return None


def _span(row: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any] | None:
    raw = next((values[k] for k in INPUTS if k in values), None)
    if raw is None:
        return None
    body = {name: values[key] for key, name in SETTINGS.items() if key in values}
    messages = [_message(m) for m in _list(raw, "gen_ai.input.messages")]
    if SYSTEM in values:
        said = _joined(_list(values[SYSTEM], SYSTEM))
        messages.insert(0, {"role": "system", "content": said})
    if TOOLS in values:
        body["tools"] = [_tool(t) for t in _list(values[TOOLS], TOOLS)]
    body["messages"] = messages
    usage = {name: _count(values[key], key) for key, name in COUNTS.items() if key in values}
    if "gen_ai.conversation.id" in values:
        row = {**row, "session_id": values["gen_ai.conversation.id"]}
    return {**row, "attributes": None, "body": body, "usage": usage}


def _attributes(given: Any) -> dict[str, Any]:
    if isinstance(given, dict):
        return given
    values = {}
    for pair in given:
        value = pair.get("value") if isinstance(pair, dict) else None
        if isinstance(value, dict) and value:
            values[str(pair.get("key"))] = next(iter(value.values()))
    return values


def _count(value: Any, field: str) -> int:
    """Numbers of 64 bits are texts in OTLP's JSON."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{field} is {value!r:.60}, expected a number of tokens") from None


def _objects(value: Any, field: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(x, dict) for x in value):
        raise ValueError(f"{field} is no list of objects")
    return value


def _list(value: Any, field: str) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{field} is not JSON: {error}") from None
    return _objects(value, field)


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """The conventions' message, in parts, as a chat endpoint takes it."""
    if "parts" not in message:
        return message
    parts = _objects(message["parts"], "parts of gen_ai.input.messages")
    calls = [
        {"id": p.get("id"), "type": "function",
         "function": {"name": p.get("name"), "arguments": _text(p.get("arguments"))}}
        for p in parts if p.get("type") == "tool_call"
    ]  # fmt: skip
    answers = [p for p in parts if p.get("type") == "tool_call_response"]
    if answers:
        said = _text(answers[0].get("response", answers[0].get("result")))
        return {"role": "tool", "tool_call_id": answers[0].get("id"), "content": said}
    made: dict[str, Any] = {"role": message.get("role"), "content": _joined(parts)}
    if calls:
        made["tool_calls"] = calls
        made["content"] = made["content"] or None
    return made


def _joined(parts: list[dict[str, Any]]) -> str:
    return "".join(str(p.get("content", "")) for p in parts if p.get("type") in (None, "text"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if "function" in tool:
        return tool
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def _observation(row: Mapping[str, Any]) -> dict[str, Any] | None:
    given = row.get("input")
    if isinstance(given, str) and given.lstrip().startswith(("[", "{")):
        given = json.loads(given)
    settings = row.get("modelParameters") or {}
    if not isinstance(settings, dict):
        raise ValueError("field 'modelParameters' is no object")
    body = dict(settings)
    if row.get("model"):
        body["model"] = row["model"]
    if isinstance(given, dict) and "messages" in given:
        body |= given
    elif isinstance(given, list):
        body["messages"] = given
    elif isinstance(given, str):
        body["prompt"] = given
    else:
        return None
    usage = row.get("usage") or row.get("usageDetails") or {}
    return {**{k: v for k, v in row.items() if k != "input"}, "body": body, "usage": usage}
