"""One question to an OpenAI-compatible chat API → its text and its token counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import openai

from aot.configs.kernel import network
from aot.configs.kernel.errors import EndpointError
from aot.serving.client.refusals import not_as_expected, refused, unreachable

Message = dict[str, str]
Tools = tuple[dict[str, Any], ...]
TIMEOUT_S = 600.0
VENDORS = "https://api.openai.com"


def way(url: str | None) -> dict[str, Any]:
    """Settings of an SDK's HTTP client: it goes the way that the environment names
    (configs/kernel/network.py)."""
    found = network.proxy(url or VENDORS)
    proxy = found.with_login if found else None
    return {"trust_env": False, "verify": network.trusting(), "proxy": proxy}


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer, as the server reported them; None where it did not."""

    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    written_tokens: int | None = None
    """Prompt tokens that were put into a cache."""


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer that is complete."""

    text: str
    usage: Usage


class Chat:
    """A connection to one API, kept from question to question. A context manager.

    base_url: without /v1; None: the vendor's own. key_env: where `key` is from, for messages.
    """

    def __init__(
        self, base_url: str | None, model: str, key: str | None, key_env: str | None = None
    ) -> None:
        self._where, self._model, self._key_env = base_url or "OpenAI", model, key_env
        who = network.authorization(base_url, key, "--api-key-env") if base_url else {}
        self._sdk = openai.OpenAI(
            base_url=f"{base_url}/v1" if base_url else None,
            api_key=key or "none",
            max_retries=0,
            timeout=TIMEOUT_S,
            http_client=openai.DefaultHttpxClient(**way(base_url)),
            default_headers=who,
        )

        if base_url is not None:  # what the environment has for the vendor is for the vendor alone
            self._sdk.organization = self._sdk.project = None

    def __enter__(self) -> Chat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sdk.close()

    def ask(
        self,
        messages: Sequence[Message],
        max_tokens: int,
        *,
        tools: Tools = (),
        salt: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Completion:
        """One answer, not streamed. `salt` names a cache of its own for what shares it; `more` are
        fields of the body.

        Raises EndpointError with the server's own words.
        """
        if tools:
            more |= {"tools": tools, "tool_choice": "none"}
        turns: Any = list(messages)
        try:
            answer = self._sdk.chat.completions.with_raw_response.create(
                model=self._model,
                messages=turns,
                max_tokens=max_tokens,
                extra_body={"cache_salt": salt} if salt else None,
                extra_headers=headers,
                **more,
            )
        except openai.APIStatusError as error:
            raise refused(
                self._where, error.status_code, error.message, self._key_env, self._model
            ) from None
        except openai.APIConnectionError as error:
            raise unreachable(self._where, error.__cause__ or error) from None
        except UnicodeError:
            raise EndpointError(
                f"{self._where}: the prompt has characters that no JSON can carry"
            ) from None
        return _completion(self._where, answer.http_response.text)


def _completion(where: str, body: str) -> Completion:
    """The body of an answer with status 200. Raises EndpointError for one that is no answer of a
    chat API, as a login page or a gateway's own words are."""
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        text = (choice.get("message") or {}).get("content")
        usage = answer.get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        return Completion(
            text if isinstance(text, str) else "",
            Usage(
                _count(usage, "prompt_tokens"),
                _count(details, "cached_tokens"),
                _count(usage, "completion_tokens"),
                _count(details, "created_cache_tokens"),
            ),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        raise not_as_expected(where, body) from None


def _count(row: Mapping[str, Any], name: str) -> int | None:
    """None where it is not said, or is no count."""
    value = row.get(name)
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count else None
