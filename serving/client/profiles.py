"""Which kind of server answers at an address, where it wants something else than usual: by the name
of its host, else by pages that only this kind has. GET requests only, none of which does anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aot.serving.client.endpoint import Endpoint

HOSTS = {"api.openai.com": "openai", ".openai.azure.com": "azure"}
"""Ends of the names of hosts."""
PAGES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bool]]] = {
    "ollama": ("/api/version", lambda page: "version" in page),
    "llama.cpp": ("/props", lambda page: "default_generation_settings" in page),
    "tgi": ("/info", lambda page: {"model_id", "max_total_tokens"} <= page.keys()),
    "litellm": ("/health/readiness", lambda page: "litellm_version" in page),
}
"""By profile: a page, and what is on it."""


def by_host(url: str) -> str | None:
    """The profile of a vendor's own address."""
    host = urlsplit(url).hostname or ""
    return next((name for end, name in HOSTS.items() if host.endswith(end)), None)


def by_pages(endpoint: Endpoint) -> str | None:
    """The profile of a server by what it says of itself; None where it says nothing of the kind."""
    for name, (path, is_it) in PAGES.items():
        if is_it(endpoint.info(path)):
            return name
    return None
