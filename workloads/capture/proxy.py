"""A reverse proxy between clients and a server: passes all on as it comes, and logs requests.

Built on aiohttp. Answers go on piece by piece as they arrive; what an answer said is looked at when
it is over. Headers are passed on and never logged.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, web

from aot.workloads.capture.log import CaptureLog
from aot.workloads.capture.private import Blocks
from aot.workloads.capture.said import MOST_BYTES, said, unpacked
from aot.workloads.logs.bodies import of_url
from aot.workloads.requests import body as bodies

HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers",
    "transfer-encoding", "upgrade", "host", "content-length", "proxy-connection",
})  # fmt: skip
"""Headers of one connection (RFC 9110, 7.6.1), and those that are set anew."""
CLIENT_GONE = "the client went away"
LARGEST_BODY = 1 << 30
GRACE_S = 30.0


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


@dataclass(slots=True)
class Capture:
    """`share`: of the sessions, that are logged. `blocks`: then no text is written."""

    target: str
    log: CaptureLog
    share: float = 1.0
    blocks: Blocks | None = None
    now: Callable[[], float] = time.time
    requests: int = 0
    left_out: int = 0
    broken: int = 0
    """Requests that nobody here could read: of them a line says no more than that."""
    _session: ClientSession | None = None
    _writer: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def app(self) -> web.Application:
        """The application to be served."""
        made = web.Application(client_max_size=LARGEST_BODY)
        made.router.add_route("*", "/{path:.*}", self.handle)
        made.on_startup.append(self._start)
        made.on_cleanup.append(self._stop)
        return made

    async def _start(self, _: web.Application) -> None:
        self._session = ClientSession(
            connector=TCPConnector(limit=0),
            timeout=ClientTimeout(total=None, sock_connect=30),
            auto_decompress=False,
        )

    async def _stop(self, _: web.Application) -> None:
        if self._session:
            await self._session.close()
        # What was passed on is written, whatever else ends.
        await asyncio.to_thread(self._writer.shutdown, True)
        self.log.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Pass one request on, and its answer back."""
        passed = Passed(request.path, await request.read(), self.now())
        logged = of_url(request.path) is not None and request.method == "POST"
        try:
            return await self._pass(request, passed)
        except _ClientGoneError:
            passed.error = CLIENT_GONE
            raise
        except ClientError as error:
            passed.error = f"{type(error).__name__}: {error}"
            passed.status = 502
            words = {"error": {"message": f"{self.target} cannot be reached: {error}", "code": 502}}
            return web.json_response(words, status=502)
        except asyncio.CancelledError:
            passed.error = CLIENT_GONE
            raise
        finally:
            if logged:
                self._note(passed)

    async def _pass(self, request: web.Request, passed: Passed) -> web.StreamResponse:
        assert self._session is not None
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP]
        async with self._session.request(
            request.method,
            self.target + request.raw_path,
            headers=headers,
            data=passed.body or None,
            allow_redirects=False,
        ) as answer:
            passed.status = answer.status
            passed.streamed = answer.content_type == "text/event-stream"
            out = web.StreamResponse(status=answer.status, reason=answer.reason)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    out.headers.add(name, value)
            if answer.content_length is not None:
                out.content_length = answer.content_length
            passed.coding = answer.headers.get("Content-Encoding", "").lower()
            await out.prepare(request)
            try:
                await self._pass_pieces(answer, out, passed)
            except ClientError as error:
                # Half an answer is passed on as half of one: broken off, not ended.
                passed.error = f"{type(error).__name__}: {error}"
                if request.transport is not None:
                    request.transport.abort()
        return out

    async def _pass_pieces(
        self, answer: ClientResponse, out: web.StreamResponse, passed: Passed
    ) -> None:
        async for piece in answer.content.iter_any():
            try:
                await out.write(piece)
            except ConnectionResetError:
                raise _ClientGoneError from None
            passed.first_s = passed.first_s or self.now()
            if len(passed.answer) < MOST_BYTES:
                passed.answer += piece
        await out.write_eof()

    def _words(self, error: object) -> str:
        """Of what is wrong with a request or an answer: some of its text may be in them."""
        return "no text of it is written" if self.blocks else str(error)

    def _note(self, passed: Passed) -> None:
        passed.ended_s = self.now()
        self._writer.submit(self._write, passed)

    def _write(self, passed: Passed) -> None:
        """In a thread of its own, so that no stream waits for it."""
        self.requests += 1
        try:
            row = self._row(passed)
        except Exception as error:  # a fault of ours must not make a request vanish
            self.broken += 1
            row = {"timestamp": passed.began_s, "url": passed.path, "status": passed.status,
                   "error": f"could not be read: {self._words(error)}"}  # fmt: skip
        if row is None:
            self.left_out += 1
            return
        self.log.write(row)

    def _row(self, passed: Passed) -> dict[str, Any] | None:
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


class _ClientGoneError(Exception):
    """Nobody takes the answer any more."""


def _draw(endpoint: str, body: Mapping[str, Any]) -> float:
    """A number from 0 to 1 that is the same for all turns of a session: of what it begins with."""
    messages, _ = bodies.chat(endpoint, body)
    first = next((n for n, m in enumerate(messages) if m.get("role") == "user"), 0)
    begin = json.dumps(messages[: first + 1], sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(begin).digest()[:8], "big") / 2**64
