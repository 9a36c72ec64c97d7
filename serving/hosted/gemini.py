"""The Gemini API: the static part is stored as a cached content with a lifetime, and named in each
request. Where none can be stored (it is too short), the request goes whole, and hits are implicit.

No server here speaks this API: it is tested against its SDK's own HTTP layer only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google import genai
from google.genai import errors, types

from aot.configs.kernel import network
from aot.serving.client.chat import Completion, Message, Usage, way
from aot.serving.client.refusals import not_as_expected, refused, unreachable
from aot.serving.hosted.api import Account, Static, Ttl

ENV = "GEMINI_API_KEY"
GONE = (403, 404)
VENDOR = "https://generativelanguage.googleapis.com"
SECONDS = {"5m": "300s", "1h": "3600s"}
_ROLES = {"assistant": "model"}


class GeminiClient:
    """Gemini itself. One cached content per static part, made at its first use."""

    def __init__(self, account: Account, ttl: Ttl) -> None:
        self._account, self._where = account, account.url or "Gemini"
        self._ttl = SECONDS[ttl]
        self._stored: dict[str, str | None] = {}
        """Names of cached contents by the key of the static part; None: could not be stored."""
        self._key = account.key(ENV)

    def _sdk(self) -> genai.Client:
        """The SDK with connections of its own, which end with its context."""
        url = self._account.url
        options = types.HttpOptions(
            base_url=url,
            client_args=way(url or VENDOR),
            headers=network.authorization(url, None, "--url") if url else None,
        )
        return genai.Client(api_key=self._key or "none", http_options=options)

    def ask(self, static: Static, dynamic: Sequence[Message], max_tokens: int) -> Completion:
        try:
            name, written = self._store(static)
            try:
                answer = self._generate(static, dynamic, max_tokens, name)
            except errors.ClientError as error:
                # What it says of a content whose lifetime is over, or that was deleted.
                if name is None or written or error.code not in GONE:
                    raise
                del self._stored[static.key]
                name, written = self._store(static)
                answer = self._generate(static, dynamic, max_tokens, name)
            return _completion(answer, written)
        except errors.APIError as error:
            env, model = self._account.api_key_env or ENV, self._account.model
            raise refused(self._where, error.code, str(error.message), env, model) from None
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise not_as_expected(self._where, "Gemini", str(error)) from None
        except Exception as error:
            if not _is_transport(error):
                raise
            raise unreachable(self._where, error) from None

    def _generate(
        self, static: Static, dynamic: Sequence[Message], max_tokens: int, name: str | None
    ) -> types.GenerateContentResponse:
        config: dict[str, Any] = {"max_output_tokens": max_tokens}
        turns = list(dynamic)
        if name:
            config["cached_content"] = name
        else:
            config["system_instruction"] = "\n".join(static.system) or None
            config["tools"] = _tools(static)
            turns = [*static.turns, *dynamic]
        with self._sdk() as sdk:
            return sdk.models.generate_content(
                model=self._account.model,
                contents=_contents(turns),
                config=types.GenerateContentConfig(**config),
            )

    def _store(self, static: Static) -> tuple[str | None, int | None]:
        """The name of the cached content, and the tokens written for it just now."""
        if static.key in self._stored:
            return self._stored[static.key], 0
        config = types.CreateCachedContentConfig(
            system_instruction="\n".join(static.system) or None,
            contents=_contents(static.turns) or None,
            tools=_tools(static),
            ttl=self._ttl,
            display_name=static.key[:60],
        )
        try:
            with self._sdk() as sdk:
                content = sdk.caches.create(model=self._account.model, config=config)
        except errors.ClientError as error:
            if error.code != 400:  # 400: below the smallest size
                raise
            self._stored[static.key] = None
            return None, None
        self._stored[static.key] = content.name
        usage = content.usage_metadata
        return content.name, usage.total_token_count if usage else None


def _completion(answer: types.GenerateContentResponse, written: int | None) -> Completion:
    usage = answer.usage_metadata
    counts = Usage(
        prompt_tokens=usage.prompt_token_count if usage else None,
        cached_tokens=usage.cached_content_token_count if usage else None,
        output_tokens=usage.candidates_token_count if usage else None,
        written_tokens=written,
    )
    return Completion(answer.text or "", counts)


def _is_transport(error: Exception) -> bool:
    """Whether no answer came: an error of the HTTP library, which differs between SDK versions."""
    return any(kind.__name__ == "TransportError" for kind in type(error).__mro__)


def _contents(messages: Sequence[Message]) -> Any:
    return [
        types.Content(role=_ROLES.get(m["role"], m["role"]), parts=[types.Part(text=m["content"])])
        for m in messages
    ]


def _tools(static: Static) -> Any:
    if not static.tools:
        return None
    inner = [tool.get("function", tool) for tool in static.tools]
    declarations = [
        types.FunctionDeclaration(
            name=f.get("name"),
            description=f.get("description"),
            parameters_json_schema=f.get("parameters"),
        )
        for f in inner
    ]
    return [types.Tool(function_declarations=declarations)]
