"""The Anthropic messages API: breakpoints say up to where a prompt is kept.

Order of a prompt there: tools, system, messages. At most four breakpoints; ours are behind the
tools, behind the system texts and behind the last static turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anthropic

from aot.configs.dialects.dialect import Told
from aot.configs.dialects.messages import take_usage, tool
from aot.configs.kernel import network
from aot.serving.client.chat import Completion, Message, Usage, way
from aot.serving.client.refusals import not_as_expected, refused, unreachable
from aot.serving.hosted.api import Account, Static, Ttl

ENV = "ANTHROPIC_API_KEY"


class AnthropicClient:
    """Anthropic itself, or a server that speaks its API (vLLM and SGLang: /v1/messages)."""

    def __init__(self, account: Account, ttl: Ttl) -> None:
        self._account, self._where = account, account.url or "Anthropic"
        self._mark = {"type": "ephemeral", "ttl": ttl}
        self._key = account.key(ENV)

    def _sdk(self) -> anthropic.Anthropic:
        """The SDK with connections of its own, which end with its context."""
        base, key = self._account.url, self._key
        # vLLM takes a bearer token only, Anthropic its own header.
        auth: dict[str, Any] = {"api_key": key} if base is None else {"auth_token": key or "none"}
        return anthropic.Anthropic(
            base_url=base,
            max_retries=0,
            timeout=600,
            http_client=anthropic.DefaultHttpxClient(**way(base)),
            default_headers=network.authorization(base, key, "--api-key-env") if base else None,
            **auth,
        )

    def ask(self, static: Static, dynamic: Sequence[Message], max_tokens: int) -> Completion:
        try:
            with self._sdk() as sdk:
                answer = sdk.messages.create(
                    model=self._account.model,
                    max_tokens=max_tokens,
                    **self.request(static, dynamic),
                )
            return _completion(answer)
        except anthropic.APIStatusError as error:
            env, model = self._account.api_key_env or ENV, self._account.model
            raise refused(self._where, error.status_code, error.message, env, model) from None
        except anthropic.APIConnectionError as error:
            raise unreachable(self._where, error) from None
        except (anthropic.APIError, AttributeError, TypeError, ValueError) as error:
            raise not_as_expected(self._where, "messages", str(error)) from None

    def request(self, static: Static, dynamic: Sequence[Message]) -> dict[str, Any]:
        """The body's parts, with breakpoints behind the static segments."""
        system = [{"type": "text", "text": text} for text in static.system]
        turns = [{"role": m["role"], "content": m["content"]} for m in [*static.turns, *dynamic]]
        tools = [tool(t) for t in static.tools]
        body: dict[str, Any] = {"messages": turns}
        if system:
            body["system"] = [*system[:-1], {**system[-1], "cache_control": self._mark}]
        if tools:
            body["tools"] = [*tools[:-1], {**tools[-1], "cache_control": self._mark}]
            body["tool_choice"] = {"type": "none"}
        if static.turns:
            last = len(static.turns) - 1
            text = {"type": "text", "text": turns[last]["content"], "cache_control": self._mark}
            turns[last] = {"role": turns[last]["role"], "content": [text]}  # type: ignore[dict-item]
        return body


def _completion(answer: Any) -> Completion:
    text = "".join(block.text for block in answer.content if block.type == "text")
    told = Told()
    take_usage(answer.usage.to_dict(), told)
    counts = (told.prompt_tokens, told.cached_tokens, told.output_tokens, told.written_tokens)
    return Completion(text, Usage(*counts))
