"""/v1/responses, OpenAI's newer endpoint, as vLLM and SGLang have it, too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from aot.configs.dialects.chat import DONE
from aot.configs.dialects.dialect import (
    Asked,
    BrokenAnswerError,
    Message,
    Told,
    inner,
    parsed,
    refuse_other,
    text_of,
    words_of,
)

TEXT = "response.output_text.delta"
OTHER_TEXT = frozenset({
    "response.reasoning_text.delta", "response.reasoning_summary_text.delta",
    "response.function_call_arguments.delta", "response.custom_tool_call_input.delta",
    "response.refusal.delta",
})  # fmt: skip
ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})


class ResponsesDialect:
    name = "responses"
    path = "/v1/responses"
    end = re.compile(rb"response\.(completed|incomplete|failed)")
    end_within = 1 << 30  # the end is far from its beginning
    has_ignore_eos = True
    least_tokens = 3  # SGLang 0.5.23 generates two fewer than it is asked for

    def body(self, prompt: Sequence[Message] | str, asked: Asked) -> dict[str, Any]:
        items = [self.item(m) for m in prompt]  # type: ignore[arg-type]
        body: dict[str, Any] = {"model": asked.model, "input": items}
        body |= {"max_output_tokens": asked.max_tokens, "temperature": 0, "store": False}
        if asked.stream:
            body["stream"] = True
        if asked.ignore_eos:
            body["ignore_eos"] = True
        if asked.salt:
            body["cache_salt"] = asked.salt
        if asked.tools:
            body |= {"tools": [_tool(t) for t in asked.tools], "tool_choice": "none"}
        return body

    def item(self, message: Message) -> dict[str, Any]:
        return dict(message)

    def take(self, payload: bytes, told: Told) -> str | None:
        if payload == DONE:
            told.ended = True
            return None
        event = parsed(payload)
        kind = event.get("type")
        if kind == TEXT:
            return text_of(event["delta"]) if event.get("delta") else None
        if kind in OTHER_TEXT and event.get("delta"):
            # A summary is not what was counted.
            told.reasoned = told.reasoned or kind == "response.reasoning_text.delta"
            return ""
        if kind in ENDS:
            told.ended = True
            _take_response(event.get("response"), told)
        elif kind == "error" or kind is None:
            refuse_other(event)
        return None

    def whole(self, body: bytes, told: Told) -> str:
        row = parsed(body, "the answer")
        items = row.get("output")
        if not isinstance(items, list):
            refuse_other(row)
            raise BrokenAnswerError("the answer has no output in it")
        _take_response(row, told)
        messages = [i for i in items if inner(i, "type") == "message"]
        told.reasoned = any(inner(i, "type") == "reasoning" for i in items)
        return "".join(text_of(inner(m, "content")) for m in messages)


def _take_response(response: object, told: Told) -> None:
    usage = inner(response, "usage")
    told.count(
        prompt_tokens=inner(usage, "input_tokens"),
        output_tokens=inner(usage, "output_tokens"),
        cached_tokens=inner(usage, "input_tokens_details", "cached_tokens"),
        reasoning_tokens=inner(usage, "output_tokens_details", "reasoning_tokens"),
    )
    status, why = inner(response, "status"), inner(response, "incomplete_details", "reason")
    told.finish_reason = str(why or status) if why or status else None
    if status == "failed":
        raise BrokenAnswerError(f"the server sent an error: {words_of(inner(response, 'error'))}")


def _tool(tool: Any) -> dict[str, Any]:
    """A tool's schema without the chat endpoint's inner object."""
    return {"type": "function", **tool.get("function", tool)}
