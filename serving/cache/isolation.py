"""Can one tenant find out what another one has sent? The facts of it, trial by trial.

In each trial the victim sends a prompt that nobody else could know. Then the attacker sends the
same prompt, and one of the same kind that nobody has sent, in an order drawn by lot: what tells the
two apart is what leaks. Each is answered with a single token, so that the time of the whole answer
is the time to first token. The requests follow one another; nothing else should load the server.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from aot.serving.cache.proof import OPENING_TOKENS, canary
from aot.serving.client.chat import Message
from aot.serving.client.endpoint import Endpoint

MIN_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Tenant:
    """How one tenant talks to the server. `salt`: None where it sends none."""

    endpoint: Endpoint
    salt: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One answer as the attacker sees it; `cached_tokens` is None where they are not reported."""

    seconds: float
    prompt_tokens: int | None
    cached_tokens: int | None


@dataclass(frozen=True, slots=True)
class Trial:
    """The attacker's two answers: to what the victim had sent, and to what nobody had."""

    known: Seen
    unknown: Seen

    @property
    def shows_by_count(self) -> bool:
        """Whether more was cached of the victim's prompt, by more than all prompts share."""
        known, unknown = self.known.cached_tokens, self.unknown.cached_tokens
        return known is not None and unknown is not None and known > unknown + OPENING_TOKENS

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run(
    victim: Tenant, attacker: Tenant, trials: int, tokens: int, report: Callable[[str], None]
) -> Iterator[Trial]:
    """The trials, as they are made, one after the other; prompts have at least `tokens` tokens.

    Raises EndpointError with the server's own words.
    """
    lots = random.Random(secrets.token_hex(8))
    with _Caller(victim) as hidden, _Caller(attacker) as curious:
        for caller in (hidden, curious):  # connections, templates, kernels: not part of a trial
            before = _prompt(tokens)
            caller.ask(before)
            caller.ask(before)  # which hits, and so shows whether cached tokens are told
        for number in range(1, trials + 1):
            report(f"trial {number} of {trials}")
            secret, unsent = _prompt(tokens), _prompt(tokens)
            hidden.ask(secret)
            if lots.random() < 0.5:
                known, unknown = curious.ask(secret), curious.ask(unsent)
            else:
                unknown, known = curious.ask(unsent), curious.ask(secret)
            yield Trial(known, unknown)


def _prompt(tokens: int) -> list[Message]:
    return canary(secrets.token_hex(8), max(tokens, MIN_TOKENS) // 3)


class _Caller:
    """One tenant's connection, kept: opening one is no part of what is timed."""

    def __init__(self, tenant: Tenant) -> None:
        self._salt, self._chat = tenant.salt, tenant.endpoint.connection()
        self._tells = False

    def __enter__(self) -> _Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._chat.close()

    def ask(self, messages: list[Message]) -> Seen:
        """One answer. Once the server has told cached tokens, it leaves out a 0."""
        began = time.perf_counter()
        usage = self._chat.ask(messages, 1, salt=self._salt).usage
        seconds = time.perf_counter() - began
        self._tells = self._tells or usage.cached_tokens is not None
        cached = usage.cached_tokens
        if cached is None and self._tells and usage.prompt_tokens:
            cached = 0
        return Seen(seconds, usage.prompt_tokens, cached)
