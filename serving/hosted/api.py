"""One small client for prompts with a static and a dynamic part, whatever API answers.

The parts are separate arguments, so that each API is told in its own way what to keep: by order
alone (OpenAI-compatible servers), by breakpoints behind the static segments (Anthropic), by a
cached content with a lifetime (Gemini). All SDKs but openai are extras of this package.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from aot.configs.kernel.secrecy import held_in
from aot.serving.client.chat import Completion, Message, Tools

API = Literal["openai", "anthropic", "gemini"]
APIS: tuple[API, ...] = ("openai", "anthropic", "gemini")
Ttl = Literal["5m", "1h"]
TTLS: tuple[Ttl, ...] = ("5m", "1h")


@dataclass(frozen=True, slots=True)
class Static:
    """The part that stays the same. `key` names it among others (the compiled cache key)."""

    messages: Sequence[Message]
    tools: Tools
    key: str
    salt: str | None = None

    @property
    def system(self) -> list[str]:
        """The texts of its system messages."""
        return [m["content"] for m in self.messages if m["role"] == "system"]

    @property
    def turns(self) -> list[Message]:
        """Its other messages."""
        return [m for m in self.messages if m["role"] != "system"]


@dataclass(frozen=True, slots=True)
class Account:
    """Where, as whom, and which model. `url` None: the vendor's own."""

    url: str | None
    model: str
    api_key_env: str | None

    def key(self, default_env: str) -> str | None:
        """The key: of the named variable, which must be set, else of the vendor's usual one, which
        is for the vendor alone: another address gets a key only where its variable is named."""
        if self.api_key_env is not None:
            return held_in(self.api_key_env, "--api-key-env")
        if self.url is not None or not os.environ.get(default_env, "").strip():
            return None
        return held_in(default_env, "the vendor's key")


class PromptClient(Protocol):
    """Asks with a static and a dynamic part."""

    def ask(self, static: Static, dynamic: Sequence[Message], max_tokens: int) -> Completion:
        """One answer. Raises EndpointError with the server's own words."""
        ...
