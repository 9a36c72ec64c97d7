"""The OpenAI chat API: caching is automatic, by the order of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aot.configs.loading.wording import of_options
from aot.serving.client.chat import Chat, Completion, Message
from aot.serving.hosted.api import Account, Static

ENV = "OPENAI_API_KEY"


class OpenAIClient:
    """vLLM, SGLang, OpenAI itself. A cache salt is sent where the prompt has one; a prompt cache
    key, which steers OpenAI's routing, where the address is OpenAI's."""

    def __init__(self, account: Account) -> None:
        self._url = account.url
        self._model, self._key = account.model, account.key(ENV)
        self._key_env = account.api_key_env or ENV
        self._wording = of_options(profile=None if account.url else "openai")

    def ask(self, static: Static, dynamic: Sequence[Message], max_tokens: int) -> Completion:
        more: dict[str, Any] = {} if self._url else {"prompt_cache_key": static.key[:64]}
        messages = [*static.messages, *dynamic]
        with Chat(self._url, self._model, self._key, self._key_env, self._wording) as chat:
            return chat.ask(messages, max_tokens, tools=static.tools, salt=static.salt, **more)
