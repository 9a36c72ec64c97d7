"""The OpenAI chat API: caching is automatic, by the order of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aot.serving.client.chat import Chat, Completion, Message
from aot.serving.hosted.api import Account, Static

ENV = "OPENAI_API_KEY"


class OpenAIClient:
    """vLLM, SGLang, OpenAI itself. A cache salt is sent where the prompt has one; a prompt cache
    key, which steers OpenAI's routing, where the address is OpenAI's."""

    def __init__(self, account: Account) -> None:
        url = account.url.rstrip("/").removesuffix("/v1") if account.url else None
        self._own = url is not None
        key_env = account.api_key_env or ENV
        self._chat = Chat(url, account.model, account.key(ENV), key_env)

    def ask(self, static: Static, dynamic: Sequence[Message], max_tokens: int) -> Completion:
        more: dict[str, Any] = {} if self._own else {"prompt_cache_key": static.key[:64]}
        messages = [*static.messages, *dynamic]
        return self._chat.ask(messages, max_tokens, tools=static.tools, salt=static.salt, **more)
