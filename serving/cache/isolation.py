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
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import requests

from aot.configs.kernel.errors import EndpointError
from aot.serving.cache.proof import canary
from aot.serving.client.endpoint import TIMEOUT_S, Endpoint, session

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

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def run(
    victim: Tenant, attacker: Tenant, trials: int, tokens: int, report: Callable[[str], None]
) -> list[Trial]:
    """The trials, one after the other; prompts have at least `tokens` tokens.

    Raises EndpointError with the server's own words.
    """
    lots = random.Random(secrets.token_hex(8))
    found = []
    with _Caller(victim) as hidden, _Caller(attacker) as curious:
        for caller in (hidden, curious):  # connections, templates, kernels: not part of a trial
            caller.ask(_prompt(tokens))
        for number in range(1, trials + 1):
            report(f"trial {number} of {trials}")
            secret, other = _prompt(tokens), _prompt(tokens)
            hidden.ask(secret)
            if lots.random() < 0.5:
                known, unknown = curious.ask(secret), curious.ask(other)
            else:
                unknown, known = curious.ask(other), curious.ask(secret)
            found.append(Trial(known, unknown))
    return found


def _prompt(tokens: int) -> list[dict[str, str]]:
    return canary(secrets.token_hex(8), max(tokens, MIN_TOKENS) // 3)


class _Caller:
    """One connection, kept: opening one is no part of what is timed."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant, self._endpoint = tenant, tenant.endpoint
        self._http = session(self._endpoint.base_url)
        if self._endpoint.key:
            self._http.headers["Authorization"] = f"Bearer {self._endpoint.key}"

    def __enter__(self) -> _Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ask(self, messages: list[dict[str, str]]) -> Seen:
        body: dict[str, Any] = {"model": self._endpoint.model, "messages": messages}
        body |= {"max_tokens": 1, "temperature": 0}
        if self._tenant.salt:
            body["cache_salt"] = self._tenant.salt
        url = f"{self._endpoint.base_url}/v1/chat/completions"
        began = time.perf_counter()
        try:
            answer = self._http.post(url, json=body, timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise EndpointError(
                f"{self._endpoint.base_url} is not reachable any more ({type(error).__name__})"
            ) from None
        seconds = time.perf_counter() - began
        if answer.status_code != 200:
            words = " ".join(answer.text.split())[:300]
            raise EndpointError(f"{self._endpoint.base_url} answered {answer.status_code}: {words}")
        usage = answer.json().get("usage") or {}
        details = usage.get("prompt_tokens_details") or {}
        return Seen(seconds, usage.get("prompt_tokens"), details.get("cached_tokens"))
