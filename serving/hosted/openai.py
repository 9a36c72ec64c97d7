"""The OpenAI chat API: caching is automatic, by the order of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import openai

from aot.serving.client.endpoint import Message
from aot.serving.hosted.api import Account, Answer, Static, refusal

ENV = "OPENAI_API_KEY"


class OpenAIClient:
    """vLLM, SGLang, OpenAI itself. A cache salt is sent where the prompt has one; a prompt cache
    key, which steers OpenAI's routing, where the address is OpenAI's."""

    def __init__(self, account: Account) -> None:
        self._account = account
        url = f"{account.url.rstrip('/').removesuffix('/v1')}/v1" if account.url else None
        self._sdk = openai.OpenAI(
            base_url=url, api_key=account.key(ENV) or "none", max_retries=0, timeout=600
        )

    def ask(self, static: Static, dynamic: Sequence[Message], max_tokens: int) -> Answer:
        more: dict[str, Any] = {}
        if static.tools:
            more |= {"tools": static.tools, "tool_choice": "none"}
        if self._account.url is None:
            more["prompt_cache_key"] = static.key[:64]
        if static.salt:
            more["extra_body"] = {"cache_salt": static.salt}
        messages: Any = [*static.messages, *dynamic]
        try:
            made = self._sdk.chat.completions.create(
                model=self._account.model, messages=messages, max_tokens=max_tokens, **more
            )
        except openai.APIStatusError as error:
            env = self._account.api_key_env or ENV
            raise refusal(
                self._account.url, "OpenAI", error.status_code, error.message, env
            ) from None
        except openai.APIConnectionError as error:
            raise refusal(self._account.url, "OpenAI", None, str(error), ENV) from None
        usage = made.usage
        details = usage.prompt_tokens_details if usage else None
        return Answer(
            text=made.choices[0].message.content or "",
            prompt_tokens=usage.prompt_tokens if usage else None,
            cached_tokens=details.cached_tokens if details else None,
            written_tokens=getattr(details, "created_cache_tokens", None),
            output_tokens=usage.completion_tokens if usage else None,
        )
