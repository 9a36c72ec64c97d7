"""The workers of a running router: taken out, and put back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import requests

from aot.configs.kernel.errors import EndpointError
from aot.serving.client.endpoint import session

ANSWER_S = 60.0
"""vllm-router answers when a worker that is added is healthy."""
SETTLED_S = 60.0
POLL_S = 0.2


class Workers:
    """Of one router. `by_id`: as resources (smg, sglang-router), else by URL (vllm-router)."""

    def __init__(self, router_url: str, by_id: bool) -> None:
        self._url, self._by_id = router_url, by_id

    def known(self) -> dict[str, str]:
        """URL → id, of those that it sends requests to. EndpointError where it does not say."""
        found = self._ask("GET", "/workers").json().get("workers", [])
        return {str(w["url"]): str(w.get("id", "")) for w in found}

    def remove(self, worker: str) -> None:
        """Give it no more requests; those that it has go on. EndpointError where that fails."""
        if worker not in (known := self.known()):
            return
        if self._by_id:
            self._ask("DELETE", f"/workers/{known[worker]}")
        else:
            self._ask("POST", f"/remove_worker?{urlencode({'url': worker})}")
        self._settle(lambda: worker not in self.known(), f"{worker} was not removed")

    def add(self, worker: str) -> None:
        """Give it requests. EndpointError where that fails."""
        if self._by_id:
            self._ask("POST", "/workers", json={"url": worker})
        else:
            self._ask("POST", f"/add_worker?{urlencode({'url': worker})}")
        self._settle(lambda: worker in self.known(), f"{worker} was not added")

    def _ask(self, method: str, path: str, **more: Any) -> requests.Response:
        try:
            with session(self._url) as http:
                answer = http.request(method, f"{self._url}{path}", timeout=ANSWER_S, **more)
        except requests.RequestException as error:
            raise EndpointError(f"{self._url}{path}: {error}") from None
        if not answer.ok:
            raise EndpointError(
                f"{self._url}{path}: {answer.status_code}: {' '.join(answer.text.split())[:200]}"
            )
        return answer

    def _settle(self, done: Callable[[], bool], words: str) -> None:
        until = time.monotonic() + SETTLED_S
        while not done():
            if time.monotonic() > until:
                raise EndpointError(f"{self._url}: {words} within {SETTLED_S:g} s")
            time.sleep(POLL_S)
