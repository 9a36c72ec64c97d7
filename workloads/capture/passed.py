"""What passed through the proxy: one exchange that is over, and its line in the log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aot.workloads.capture.private import Blocks
from aot.workloads.capture.said import MOST_BYTES, said, unpacked
from aot.workloads.logs.bodies import of_url
from aot.workloads.requests import body as bodies


@dataclass(slots=True)
class Passed:
    """One exchange that is over, or broken off."""

    path: str
    body: bytes
    began_s: float
    status: int | None = None
    streamed: bool = False
    coding: str = ""
    """How the answer is packed (Content-Encoding)."""
    answer: bytearray = field(default_factory=bytearray)
    first_s: float | None = None
    ended_s: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """`share`: of the sessions, that are logged. `blocks`: then no text is written."""

    share: float = 1.0
    blocks: Blocks | None = None

    def of(self, passed: Passed) -> dict[str, Any] | None:
        """The line of one exchange; None for one of a session that is not logged. ValueError,
        UsageError and whatever else a request may break that nobody here can read."""
        endpoint, body = of_url(passed.path), json.loads(passed.body)
        assert endpoint is not None
        bodies.check(body, endpoint)
        if self.share < 1 and _draw(endpoint, body) >= self.share:
            return None
        told: dict[str, Any] = {"usage": {}, "text": ""}
        if passed.status == 200 and len(passed.answer) < MOST_BYTES:
            told = said(endpoint, passed.streamed, unpacked(bytes(passed.answer), passed.coding))
        text, broken = told.pop("text"), told.pop("error", None)
        error = passed.error or (broken and self._words(broken))
        response: dict[str, Any] = {"status": passed.status, **told}
        if passed.first_s is not None:
            response["ttft_s"] = round(passed.first_s - passed.began_s, 6)
        row: dict[str, Any] = {
            "timestamp": round(passed.began_s, 6),
            "url": passed.path,
            "duration_s": round(passed.ended_s - passed.began_s, 6),
        }
        row |= self.blocks.row(endpoint, body, text) if self.blocks else {"body": body}
        if self.blocks:
            counted = told["usage"].get("completion_tokens")
            row["output_length"] = counted if counted is not None else 0
        row["response"] = response
        return row | ({"error": error} if error else {})

    def unread(self, passed: Passed, error: Exception) -> dict[str, Any]:
        """The line of one that nobody here can read: no more than that it was."""
        return {"timestamp": passed.began_s, "url": passed.path, "status": passed.status,
                "error": f"could not be read: {self._words(error)}"}  # fmt: skip

    def _words(self, error: object) -> str:
        """Of what is wrong with a request or an answer: some of its text may be in them."""
        return "no text of it is written" if self.blocks else str(error)


def _draw(endpoint: str, body: Mapping[str, Any]) -> float:
    """A number from 0 to 1 that is the same for all turns of a session: of what it begins with."""
    messages, _ = bodies.chat(endpoint, body)
    first = next((n for n, m in enumerate(messages) if m.get("role") == "user"), 0)
    begin = json.dumps(messages[: first + 1], sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(begin).digest()[:8], "big") / 2**64
