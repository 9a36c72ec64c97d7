"""Static prefixes in the caches of hosted APIs: written, verified, and kept from expiring."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from aot.configs.kernel.errors import EndpointError
from aot.scripts.terminal import say, status
from aot.serving.cache.warm import Warmed
from aot.serving.client.chat import Usage
from aot.serving.hosted import apis
from aot.serving.hosted.api import API, Account, PromptClient, Static, Ttl
from aot.workloads.prompts.compiled import Compiled

TOUCH_AT = 0.8
"""Share of the lifetime after which a prefix is used again: each use renews it."""
LIFETIME_S: dict[Ttl, float] = {"5m": 300, "1h": 3600}


def warm(prompts: Sequence[Compiled], api: API, account: Account, ttl: Ttl) -> list[Warmed]:
    """Write every prefix, then verify each by a second, different request."""
    client = apis.client(api, account, ttl)
    seconds = {}
    with status(f"writing {len(prompts)} prefixes to {account.url or api}") as line:
        for prompt in prompts:
            line(f"writing {prompt.id}")
            started = time.monotonic()
            _ask(client, prompt, 0)
            seconds[prompt.id] = time.monotonic() - started
        return [_judge(p, _ask(client, p, 1), seconds[p.id]) for p in prompts]


def keep(prompts: Sequence[Compiled], api: API, account: Account, ttl: Ttl) -> None:
    """Use every prefix again before it expires; never returns by itself."""
    client = apis.client(api, account, ttl)
    wait_s = TOUCH_AT * LIFETIME_S[ttl]
    while True:
        time.sleep(wait_s)
        try:
            warmed = [_judge(p, _ask(client, p, 1), 0.0) for p in prompts]
        except EndpointError as error:
            say(f"{_now()} {error}")
            continue
        cold = [w.id for w in warmed if not w.verified]
        state = f"expired and written again: {', '.join(cold)}" if cold else "all there"
        say(f"{_now()} {account.url or api}: used {len(warmed)}, {state}, next in {wait_s:.0f} s")


def _ask(client: PromptClient, prompt: Compiled, which: int) -> Usage:
    static = Static(prompt.messages, tuple(prompt.tools), prompt.cache_key, prompt.cache_salt)
    return client.ask(static, prompt.probes[which], 1).usage


def _judge(prompt: Compiled, usage: Usage, seconds: float) -> Warmed:
    # The vendor's tokenizer is not ours, so a hit at all is what can be verified.
    verified = bool(usage.cached_tokens)
    return Warmed(prompt.id, prompt.static_tokens, None, usage.cached_tokens, seconds, verified)


def _now() -> str:
    return datetime.now().strftime("%H:%M:%S")
