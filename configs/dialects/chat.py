"""/v1/chat/completions, as OpenAI has it, and with what its many kin do otherwise."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from aot.configs.dialects.dialect import (
    Asked,
    BrokenAnswerError,
    Message,
    Told,
    inner,
    parsed,
    refuse_other,
    text_of,
)

DONE = b"[DONE]"
END = re.compile(rb"data: ?\[DONE\]")
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""Fields for reasoning: DeepSeek's and vLLM's, OpenRouter's and newer vLLM's, Ollama's."""


class _Delta(msgspec.Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    thinking: Any = None
    tool_calls: Any = None
    function_call: Any = None
    refusal: Any = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: _Delta | None = None
    text: Any = None
    """Of /v1/completions."""
    finish_reason: Any = None


class _Event(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


class ChatDialect:
    name = "chat"
    path = "/v1/chat/completions"
    end = END
    end_within = 40
    has_ignore_eos = True
    least_tokens = 1

    def body(self, prompt: Sequence[Message] | str, asked: Asked) -> dict[str, Any]:
        body: dict[str, Any] = {"model": asked.model, "messages": [self.item(m) for m in prompt]}  # type: ignore[arg-type]
        body |= openai_fields(asked)
        if asked.tools:
            # Shown to the model, not called: no engine needs a parser for that.
            body |= {"tools": list(asked.tools), "tool_choice": "none"}
        return body

    def item(self, message: Message) -> dict[str, Any]:
        return dict(message)

    def take(self, payload: bytes, told: Told) -> str | None:
        return take(payload, told)

    def whole(self, body: bytes, told: Told) -> str:
        row = parsed(body, "the answer")
        choice = first_choice(row, told)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise BrokenAnswerError("the answer has no message in it")
        told.reasoned = any(message.get(key) for key in THOUGHTS)
        return text_of(message.get("content"))


def openai_fields(asked: Asked) -> dict[str, Any]:
    """What chat and completions have in common."""
    fields: dict[str, Any] = {"max_tokens": asked.max_tokens, "temperature": 0}
    if asked.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    if asked.ignore_eos:
        fields["ignore_eos"] = True
    if asked.salt:
        fields["cache_salt"] = asked.salt
    return fields


def take(payload: bytes, told: Told) -> str | None:
    """One event of chat or completions."""
    if payload == DONE:
        told.ended = True
        return None
    try:
        event = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        row = parsed(payload)  # says what is wrong
        raise BrokenAnswerError(f"an event is no chunk of an answer: {row}"[:200]) from None
    if event.error:
        parsed(payload)
    if event.usage is not None:
        take_usage(event.usage, told)
    if not event.choices:
        told.counted = told.counted or event.usage is not None
        if event.usage is None and event.choices is None:
            refuse_other(parsed(payload))
        return None
    told.counted = False  # something came behind it
    return _plain_text(event.choices) or _take_choices(event.choices, told)


def _plain_text(choices: list[_Choice]) -> str | None:
    """The text of an event that has nothing else, as nearly every one."""
    first = choices[0]
    if len(choices) > 1 or first.index or first.finish_reason or first.delta is None:
        return None
    text = first.delta.content
    return text if type(text) is str else None


def _take_choices(choices: list[_Choice], told: Told) -> str | None:
    said = None
    for choice in choices:
        if choice.index >= told.choices:
            told.choices = choice.index + 1
        if choice.finish_reason:
            told.finish_reason = str(choice.finish_reason)
        delta = choice.delta
        if delta is None:
            said = text_of(choice.text) if choice.text else said
        elif delta.content:
            text = text_of(delta.content)
            # A list of parts without any text is of reasoning (Mistral's Magistral).
            told.reasoned = told.reasoned or not text
            said = text
        elif delta.reasoning_content or delta.reasoning or delta.thinking:
            told.reasoned = True
            said = said or ""
        elif delta.tool_calls or delta.function_call or delta.refusal:
            said = said or ""
    return said


def first_choice(row: dict[str, Any], told: Told) -> dict[str, Any]:
    """The choice of an answer that was not streamed; its usage is noted."""
    take_usage(row.get("usage"), told)
    choices = row.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        refuse_other(row)
        raise BrokenAnswerError("the answer has no choices in it")
    told.choices = len(choices)
    reason = choices[0].get("finish_reason")
    told.finish_reason = str(reason) if reason else None
    return choices[0]


def take_usage(usage: object, told: Told) -> None:
    """Counts, under the names that different servers give them. Later ones complete earlier ones.

    cached: OpenAI, vLLM, SGLang; DeepSeek; Moonshot; LiteLLM. written: OpenAI, vLLM, LiteLLM.
    """
    if not isinstance(usage, dict):
        return
    details = inner(usage, "prompt_tokens_details")
    told.count(
        prompt_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        reasoning_tokens=inner(usage, "completion_tokens_details", "reasoning_tokens"),
    )
    if told.reasoning_tokens is None:
        told.count(reasoning_tokens=usage.get("reasoning_tokens"))  # SGLang
    for name in ("cache_read_input_tokens", "cached_tokens", "prompt_cache_hit_tokens"):
        told.count(cached_tokens=usage.get(name))
    told.count(cached_tokens=inner(details, "cached_tokens"))
    told.count(written_tokens=usage.get("cache_creation_input_tokens"))
    for name in ("cache_creation_tokens", "created_cache_tokens", "cache_write_tokens"):
        told.count(written_tokens=inner(details, name))
