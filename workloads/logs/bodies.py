"""A row of a request log → the body that was sent, and what is known of it besides.

Looked for in the row itself and in the wrappers that gateways, SDKs and tracing tools put around
it; nothing in the body is changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aot.configs.dialects.table import EndpointName
from aot.workloads.logs import logged_times, telemetry
from aot.workloads.logs.file import Rows
from aot.workloads.logs.traced import MOST_TOKENS
from aot.workloads.requests.body import check as body_check
from aot.workloads.requests.request import Served

WRAPPERS = (
    "body", "request", "params", "payload", "request_body", "requestBody", "kwargs", "data", "json",
    "input",
)  # fmt: skip
PROMPTS = ("messages", "prompt", "input", "text")
OURS = frozenset({
    "timestamp", "ts", "time", "response", "usage", "session_id", "conversation_id", "duration_s",
    "request_id", "status", "id", "user_agent", "startTime", "endTime", "start_time", "end_time",
    "created_at", "latency_ms", "sessionId", "custom_id", "call_type", "spend", "hash", "line",
    "output_length", "prompt_tokens", "completion_tokens", "total_tokens", "at_s", "after_s",
    "duration_ms", "latency", "finish", "output", "endpoint",
})  # fmt: skip
"""Of a bare body: what logs write beside it, and no endpoint takes."""
SESSIONS = ("session_id", "sessionId", "conversation_id", "thread_id", "litellm_session_id")
OF_URL: tuple[tuple[str, EndpointName], ...] = (
    ("/chat/completions", "chat"), ("/completions", "completions"), ("/responses", "responses"),
    ("/messages", "messages"), ("/generate", "generate"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Logged:
    """`at_s`: when it was sent; `duration_s`: until its answer was over. Counts as the server
    reported them. None: not logged."""

    endpoint: EndpointName
    body: dict[str, Any]
    at_s: float | None = None
    duration_s: float | None = None
    session: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def served(self) -> Served | None:
        """The counts of the server; None without one of its prompt."""
        if self.prompt_tokens is None:
            return None
        return Served(self.prompt_tokens, self.cached_tokens, self.output_tokens)


def each(rows: Rows) -> Iterator[tuple[int, Mapping[str, Any], Logged]]:
    """(number, row, request) of everything in a log; a row that is no request is bad."""
    for number, row in rows.objects():
        try:
            made = [(number, one, found(one)) for one in telemetry.spans(row)]
        except ValueError as error:
            rows.bad(number, str(error))
            continue
        yield from made


def found(row: Mapping[str, Any]) -> Logged:
    """The request in a row, with what is known of it. ValueError naming what is missing or
    wrong."""
    row = telemetry.as_body(row) or row
    endpoint, body = _request(row)
    at_s, duration_s = logged_times.of(row)
    prompt, cached, output = _counts(row)
    return Logged(endpoint, body, at_s, duration_s, _session(row), prompt, cached, output)


def request(row: Mapping[str, Any]) -> tuple[EndpointName, dict[str, Any]]:
    """The endpoint and the body alone."""
    return _request(telemetry.as_body(row) or row)


def _request(row: Mapping[str, Any]) -> tuple[EndpointName, dict[str, Any]]:
    inside = _unwrapped(row)
    body = {k: v for k, v in inside.items() if inside is not row or k not in OURS}
    for key in ("messages", "tools", "input"):  # written as text by some
        if isinstance(value := body.get(key), str) and value.lstrip().startswith(("[", "{")):
            body[key] = _parsed(value, key)
    endpoint = _endpoint(row, body)
    body_check(body, endpoint)
    return endpoint, body


def _unwrapped(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body: the row itself, or what is in one of its wrappers."""
    inside = row
    for _ in WRAPPERS:
        if any(isinstance(inside.get(k), list) for k in ("messages", "input")):
            break
        if isinstance(inside.get("messages"), str) or "prompt" in inside:
            break
        nested = next((n for k in WRAPPERS if (n := _object(inside.get(k)))), None)
        if nested is None:
            break
        inside = nested
    return inside


def _object(value: object) -> Mapping[str, Any] | None:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return (
        value
        if isinstance(value, dict) and any(k in value for k in (*PROMPTS, *WRAPPERS))
        else None
    )


def _parsed(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if field == "input":
            return text  # a prompt may begin like that
        raise ValueError(f"field '{field}' is a text that is not JSON: {error}") from None


def _endpoint(row: Mapping[str, Any], body: Mapping[str, Any]) -> EndpointName:
    for key in ("url", "path", "endpoint", "route", "request_path"):
        url = row.get(key)
        if isinstance(url, str) and (name := of_url(url)):
            return name
        if isinstance(url, str) and "/v1/" in url:
            raise ValueError(f"field '{key}' is {url!r:.80}: no endpoint that generates text")
    if "messages" in body:
        return "messages" if _is_anthropic(body) else "chat"
    if "prompt" in body:
        return "completions"
    if "input" in body:
        return "responses"
    raise ValueError(
        "field 'messages' is missing, and so are 'prompt' and 'input': no request, nor in "
        f"{', '.join(WRAPPERS[:4])}"
    )


def of_url(url: str) -> EndpointName | None:
    """The kind of endpoint that a URL, a path or a name is of."""
    path = url.partition("?")[0].rstrip("/")
    return next((name for part, name in OF_URL if path.endswith(part) or path == name), None)


def _is_anthropic(body: Mapping[str, Any]) -> bool:
    if any(k in body for k in ("system", "anthropic_version", "stop_sequences", "thinking")):
        return True
    tools = body.get("tools")
    if isinstance(tools, list) and any(isinstance(t, dict) and "input_schema" in t for t in tools):
        return True
    messages = body["messages"] if isinstance(body["messages"], list) else []
    contents = (m.get("content") for m in messages if isinstance(m, dict))
    parts = (p for c in contents if isinstance(c, list) for p in c if isinstance(p, dict))
    return any(p.get("type") in ("tool_use", "tool_result") for p in parts)


def _session(row: Mapping[str, Any]) -> str | None:
    for place in (row, row.get("metadata")):
        if isinstance(place, dict):
            for key in SESSIONS:
                if isinstance(value := place.get(key), str | int):
                    return str(value)
    return None


def _counts(row: Mapping[str, Any]) -> tuple[int | None, int | None, int | None]:
    """Prompt, cached and output tokens, as the answer in the row says."""
    usage = _usage(row)
    prompt = _count(usage, "prompt_tokens", "input_tokens", "promptTokens", "input")
    output = _count(usage, "completion_tokens", "output_tokens", "completionTokens", "output")
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else None
    if cached is None:
        cached = _count(
            usage, "cache_read_input_tokens", "cached_tokens", "prompt_cache_hit_tokens"
        )
        written = _count(usage, "cache_creation_input_tokens")
        if prompt is not None and "cache_read_input_tokens" in usage:
            prompt += (cached or 0) + (written or 0)  # Anthropic: input_tokens is the rest
    if output is None:
        output = _count(row, "output_length", "output_tokens", "completion_tokens")
    if prompt is None:
        prompt = _count(row, "prompt_tokens", "input_tokens")
    return prompt, cached, output


USAGES = (
    ("usage",), ("usageDetails",), ("response", "usage"), ("response", "body", "usage"),
    ("response_body", "usage"), ("responseBody", "usage"), ("output", "usage"),
)  # fmt: skip
"""Where the counts of an answer stand."""


def _usage(row: Mapping[str, Any]) -> Mapping[str, Any]:
    for path in USAGES:
        value: Any = row
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
            if isinstance(value, str):
                value = _object_of(value)
        if isinstance(value, dict):
            return value
    return {}


def _object_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _count(row: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        if type(value := row.get(name)) is int and 0 <= value < MOST_TOKENS:
            return value
    return None
