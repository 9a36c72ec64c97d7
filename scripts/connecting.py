"""Finding a server that runs already, with a word to the person who waits for it."""

from __future__ import annotations

from aot.configs.dialects.wording import USUAL, Wording
from aot.configs.kernel.network import without_login
from aot.scripts.terminal import status
from aot.serving.client import endpoint
from aot.serving.client.endpoint import Endpoint


def connect(
    url: str, model: str | None, api_key_env: str | None, wording: Wording = USUAL
) -> Endpoint:
    """As `aot.serving.client.endpoint.connect`."""
    with status(f"asking {without_login(url)} what it serves"):
        return endpoint.connect(url, model, api_key_env, wording)
