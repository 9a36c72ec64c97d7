"""Finding a server that runs already, with a word to the person who waits for it."""

from __future__ import annotations

from dataclasses import replace

from aot.configs.dialects.wording import USUAL, Wording
from aot.configs.kernel.network import base_url, without_login
from aot.configs.loading.wording import with_profile
from aot.scripts.terminal import note, status
from aot.serving.client import endpoint, profiles
from aot.serving.client.detect import detect
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.table import OPENAI


def connect(
    url: str, model: str | None, api_key_env: str | None, wording: Wording = USUAL
) -> Endpoint:
    """As `aot.serving.client.endpoint.connect`; without a profile, the one of the kind of server
    that is found there."""
    with status(f"asking {without_login(url)} what it serves"):
        name = None if wording.profile else profiles.by_host(base_url(url, "--url"))
        found = endpoint.connect(url, model, api_key_env, _for(wording, name))
        if name is None and not wording.profile and detect(found) is OPENAI:
            name = profiles.by_pages(found)
    if name is not None:
        note(f"{found.base_url} is asked as profile '{name}' says; another one: --profile")
    return replace(found, wording=_for(wording, name))


def _for(wording: Wording, name: str | None) -> Wording:
    return with_profile(wording, name) if name else wording
