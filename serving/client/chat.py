"""One question to a server, at any kind of endpoint → its text and its token counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import openai

from aot.configs.dialects.dialect import Asked, BrokenAnswerError, Render, Told, is_cut_off, joined
from aot.configs.dialects.wording import USUAL, Wording
from aot.configs.kernel import network
from aot.configs.kernel.errors import EndpointError
from aot.serving.client.refusals import not_as_expected, refused, unreachable

Message = dict[str, str]
Tools = tuple[dict[str, Any], ...]
TIMEOUT_S = 600.0
NEWER_NAMES = {"max_tokens": "max_completion_tokens"}
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


def shown_zeros(usages: Sequence[Usage]) -> list[Usage]:
    """The usages of one server, with a 0 where it left cached tokens out: one that has shown them
    in any of these answers leaves out a 0 (vLLM before one fix, SGLang)."""
    if all(u.cached_tokens is None for u in usages):
        return list(usages)
    return [
        replace(u, cached_tokens=0) if u.cached_tokens is None and u.prompt_tokens else u
        for u in usages
    ]


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer that is complete."""

    text: str
    usage: Usage


class Chat:
    """A connection to one API, kept from question to question. A context manager.

    base_url: without /v1; None: the vendor's own. key_env: where `key` is from, for messages.
    render: makes the text of a prompt, where `wording` is for an endpoint that takes texts.
    """

    def __init__(
        self,
        base_url: str | None,
        model: str,
        key: str | None,
        key_env: str | None = None,
        wording: Wording = USUAL,
        render: Render = joined,
    ) -> None:
        self._where, self._model, self._key_env = base_url or "OpenAI", model, key_env
        self._wording, self._render = wording, render
        self._url = (base_url or VENDORS) + wording.target(model)
        who: dict[str, Any] = {}
        if base_url:
            who = dict(wording.sent_headers(base_url, key, "--api-key-env"))
            if wording.key_header and "Authorization" not in who:
                who["Authorization"] = openai.Omit()
        self._sdk = openai.OpenAI(
            base_url=base_url or VENDORS,
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
        takes_list = self._wording.dialect.item is not None
        prompt = list(messages) if takes_list else self._render(list(messages), tools)
        most = max(max_tokens, self._wording.dialect.least_tokens)
        asked = Asked(self._model, most, salt=salt, tools=tools)
        body = self._wording.body(prompt, asked) | more
        try:
            answer = self._post(body, headers or {})
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
        return self._completion(answer.content)

    def _post(self, body: dict[str, Any], headers: Mapping[str, str]) -> Any:
        options: Any = {"headers": dict(headers)}
        try:
            return self._sdk.post(self._url, cast_to=httpx.Response, body=body, options=options)
        except openai.BadRequestError as error:
            # OpenAI's reasoning models, and whoever hands their requests on, say so themselves.
            if "max_completion_tokens" not in error.message or "max_tokens" not in body:
                raise
            renamed = {NEWER_NAMES.get(k, k): v for k, v in body.items() if k != "temperature"}
            return self._sdk.post(self._url, cast_to=httpx.Response, body=renamed, options=options)

    def _completion(self, body: bytes) -> Completion:
        """The body of an answer with status 200. Raises EndpointError for one that is no answer, as
        a login page or a gateway's own words are."""
        told = Told()
        try:
            text = self._wording.dialect.whole(body, told)
        except BrokenAnswerError as error:
            said = body.decode("utf-8", "replace")
            kind = self._wording.dialect.name
            raise not_as_expected(self._where, kind, said, str(error)) from None
        if is_cut_off(told.finish_reason):
            raise EndpointError(
                f"{self._where} ended the answer early ({told.finish_reason}), so its counts say "
                "nothing. Its own log says more."
            )
        return Completion(
            text,
            Usage(told.prompt_tokens, told.cached_tokens, told.output_tokens, told.written_tokens),
        )
