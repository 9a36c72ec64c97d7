"""SGLang's own /generate: a text in, the text so far out, and always the cached tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aot.configs.dialects.chat import DONE, END
from aot.configs.dialects.dialect import (
    Asked,
    BrokenAnswerError,
    Message,
    Told,
    inner,
    parsed,
    refuse_other,
)


class GenerateDialect:
    name = "generate"
    path = "/generate"
    item = None  # the prompt is one text
    end = END
    end_within = 40
    has_ignore_eos = True
    least_tokens = 1

    def body(self, prompt: Sequence[Message] | str, asked: Asked) -> dict[str, Any]:
        sampling: dict[str, Any] = {"max_new_tokens": asked.max_tokens, "temperature": 0}
        if asked.ignore_eos:
            sampling["ignore_eos"] = True
        body: dict[str, Any] = {"text": prompt, "sampling_params": sampling}
        if asked.stream:
            body["stream"] = True
        if asked.salt:
            body["cache_salt"] = asked.salt
        return body

    def take(self, payload: bytes, told: Told) -> str | None:
        if payload == DONE:
            told.ended = True
            return None
        event = parsed(payload)
        text, before = event.get("text"), told.output_tokens or 0
        if not isinstance(text, str):
            refuse_other(event)
            return None
        _take_facts(event.get("meta_info"), told)
        # The text is all of it so far, unless the server was told otherwise.
        repeats = text.startswith(told.so_far)
        new = text[len(told.so_far) :] if repeats else text
        told.so_far = text if repeats else told.so_far + text
        return new if new or (told.output_tokens or 0) > before else None

    def whole(self, body: bytes, told: Told) -> str:
        row = parsed(body, "the answer")
        text = row.get("text")
        if not isinstance(text, str):
            refuse_other(row)
            raise BrokenAnswerError("the answer has no text in it")
        _take_facts(row.get("meta_info"), told)
        return text


def _take_facts(facts: object, told: Told) -> None:
    told.count(
        prompt_tokens=inner(facts, "prompt_tokens"),
        cached_tokens=inner(facts, "cached_tokens"),
        output_tokens=inner(facts, "completion_tokens"),
    )
    reason = inner(facts, "finish_reason")
    if reason:
        told.finish_reason = str(inner(reason, "type") or reason)
