"""/v1/messages, Anthropic's endpoint, as vLLM and SGLang have it, too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aot.configs.dialects.dialect import (
    Asked,
    BrokenAnswerError,
    Message,
    Told,
    inner,
    is_count,
    parsed,
    refuse_other,
    text_of,
)

THOUGHTS = ("thinking", "partial_json", "signature")


class MessagesDialect:
    name = "messages"
    path = "/v1/messages"
    end = re.compile(rb"message_stop")
    end_within = 40
    has_ignore_eos = False
    least_tokens = 1

    def body(self, prompt: Sequence[Message] | str, asked: Asked) -> dict[str, Any]:
        messages: list[Message] = list(prompt)  # type: ignore[arg-type]
        system = []
        while messages and messages[0]["role"] == "system":
            system.append(messages.pop(0)["content"])
        body: dict[str, Any] = {"model": asked.model}
        if system:
            body["system"] = "\n\n".join(system)
        body |= {"messages": [self.item(m) for m in messages], "max_tokens": asked.max_tokens}
        body["temperature"] = 0
        if asked.stream:
            body["stream"] = True
        if asked.salt:
            body["cache_salt"] = asked.salt
        if asked.tools:
            body |= {"tools": [tool(t) for t in asked.tools], "tool_choice": {"type": "none"}}
        return body

    def item(self, message: Message) -> dict[str, Any]:
        # What a tool said is the user's turn here; a call that nobody made cannot be answered.
        role = message["role"] if message["role"] in ("assistant", "system") else "user"
        return {"role": role, "content": message["content"]}

    def take(self, payload: bytes, told: Told) -> str | None:
        event = parsed(payload)
        kind = event.get("type")
        if kind == "content_block_delta":
            return _take_delta(event.get("delta"), told)
        if kind == "message_start":
            take_usage(inner(event, "message", "usage"), told)
        elif kind == "message_delta":
            take_usage(event.get("usage"), told)
            reason = inner(event, "delta", "stop_reason")
            told.finish_reason = str(reason) if reason else told.finish_reason
        elif kind == "message_stop":
            told.ended = True
        elif kind is None:
            refuse_other(event)
        return None

    def whole(self, body: bytes, told: Told) -> str:
        row = parsed(body, "the answer")
        blocks = row.get("content")
        if not isinstance(blocks, list):
            refuse_other(row)
            raise BrokenAnswerError("the answer has no content in it")
        take_usage(row.get("usage"), told)
        told.finish_reason = str(row["stop_reason"]) if row.get("stop_reason") else None
        told.reasoned = any(inner(b, "type") == "thinking" for b in blocks)
        return text_of([b for b in blocks if inner(b, "type") == "text"])


def _take_delta(delta: object, told: Told) -> str | None:
    if text := inner(delta, "text"):
        return text_of(text)
    if any(inner(delta, key) for key in THOUGHTS):
        told.reasoned = told.reasoned or bool(inner(delta, "thinking"))
        return ""
    return None


def take_usage(usage: object, told: Told) -> None:
    """`input_tokens` is the remainder only: what was neither read from a cache nor written."""
    read = inner(usage, "cache_read_input_tokens")
    written = inner(usage, "cache_creation_input_tokens")
    rest = inner(usage, "input_tokens")
    told.count(
        cached_tokens=read, written_tokens=written, output_tokens=inner(usage, "output_tokens")
    )
    if is_count(rest):
        whole = rest + sum(n for n in (read, written) if is_count(n))
        # A first event may count nothing yet.
        told.count(prompt_tokens=whole or told.prompt_tokens)


def tool(schema: Any) -> dict[str, Any]:
    """A chat endpoint's tool schema in the form of this one."""
    inside = schema.get("function", schema)
    return {
        "name": inside.get("name"),
        "description": inside.get("description", ""),
        "input_schema": inside.get("parameters", {"type": "object", "properties": {}}),
    }
