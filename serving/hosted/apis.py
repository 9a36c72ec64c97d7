"""The table of hosted APIs."""

from __future__ import annotations

from aot.configs.kernel.errors import NotInstalledError
from aot.serving.hosted.api import API, Account, PromptClient, Ttl


def client(api: API, account: Account, ttl: Ttl = "5m") -> PromptClient:
    """The client of an API. Raises NotInstalledError with the command that gets its SDK."""
    if api == "openai":
        from aot.serving.hosted.openai import OpenAIClient

        return OpenAIClient(account)
    try:
        if api == "anthropic":
            from aot.serving.hosted.anthropic import AnthropicClient

            return AnthropicClient(account, ttl)
        from aot.serving.hosted.gemini import GeminiClient

        return GeminiClient(account, ttl)
    except ImportError:
        package = {"anthropic": "anthropic", "gemini": "google-genai"}[api]
        raise NotInstalledError(
            f"--api {api} needs the package {package}; run: .venv/bin/pip install {package}"
        ) from None
