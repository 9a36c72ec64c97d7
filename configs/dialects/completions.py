"""/v1/completions: a text, for models with and without a chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aot.configs.dialects import chat
from aot.configs.dialects.dialect import Asked, Message, Told, parsed, text_of


class CompletionsDialect:
    name = "completions"
    path = "/v1/completions"
    item = None  # the prompt is one text
    end = chat.END
    end_within = 40
    has_ignore_eos = True
    least_tokens = 1

    def body(self, prompt: Sequence[Message] | str, asked: Asked) -> dict[str, Any]:
        return {"model": asked.model, "prompt": prompt} | chat.openai_fields(asked)

    def take(self, payload: bytes, told: Told) -> str | None:
        return chat.take(payload, told)

    def whole(self, body: bytes, told: Told) -> str:
        return text_of(chat.first_choice(parsed(body, "the answer"), told).get("text"))
