"""The body of a request as some endpoint takes it: can it be sent, and what is its prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

Message = dict[str, Any]
"""{"role": ..., "content": ...}; in logs with whatever else an endpoint takes."""
TEXTS = {"completions": "prompt", "generate": "text"}
"""Endpoints whose prompt is one text, and its field."""


def check(body: Mapping[str, Any], endpoint: str) -> None:
    """ValueError naming the field that is missing or wrong, or that JSON cannot carry."""
    if (field := TEXTS.get(endpoint)) and not isinstance(body.get(field), str):
        raise ValueError(f"field '{field}' is no text")
    if endpoint in ("chat", "messages"):
        check_messages(body.get("messages"))
    given: Any = body.get("input")
    if endpoint == "responses" and not isinstance(given, str):
        said = [m for m in given if "role" in m] if _is_objects(given) else given
        check_messages(said, "input")
    if not _is_objects(body.get("tools") or []):
        raise ValueError("field 'tools' is no list of tool schemas")


def _is_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(x, dict) for x in value)


def check_messages(messages: object, name: str = "messages") -> None:
    """ValueError where they are no list of messages that JSON can carry."""
    if not isinstance(messages, list) or not _is_objects(messages):
        raise ValueError(
            f"field '{name}' is missing or no list of messages; expected a chat request a line"
        )
    for n, message in enumerate(messages):
        if not isinstance(message.get("role"), str | None):
            raise ValueError(f"{name}[{n}].role is no text")
        content = message.get("content")
        if not isinstance(content, str | list | None):
            raise ValueError(f"{name}[{n}].content is no text and no list of parts")
        if isinstance(content, str) and not content.isascii():
            _check_text(content, f"{name}[{n}].content")


def _check_text(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{field} has half a character in it: {error.reason}") from None


def apart(body: Mapping[str, Any]) -> str | None:
    """What keeps the blocks of a prompt from being found by others: cache salt, model or adapter;
    None where nothing does."""
    own = [body.get(key) for key in ("cache_salt", "extra_key", "model")]
    return json.dumps(own) if any(value is not None for value in own) else None


def chat(
    endpoint: str, body: Mapping[str, Any]
) -> tuple[list[Message], tuple[dict[str, Any], ...]]:
    """The prompt as messages and tools, for who counts tokens or compares prompts."""
    tools = tuple(body.get("tools") or ())
    match endpoint:
        case "completions" | "generate":
            return [{"role": "user", "content": body[TEXTS[endpoint]]}], ()
        case "messages":
            system = body.get("system")
            first = [{"role": "system", "content": system}] if system else []
            return [*first, *body["messages"]], tools
        case "responses":
            said = body.get("instructions")
            first = [{"role": "system", "content": said}] if said else []
            given = body["input"]
            items = [{"role": "user", "content": given}] if isinstance(given, str) else given
            return [*first, *items], tools
    return list(body["messages"]), tools
