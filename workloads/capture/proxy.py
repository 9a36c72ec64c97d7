"""A reverse proxy between clients and a server: passes all on as it comes, and logs requests.

Built on aiohttp. Answers go on piece by piece as they arrive; what an answer said is looked at when
it is over. Headers are passed on and never logged.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, TCPConnector, web

from aot.workloads.capture.passed import Passed
from aot.workloads.capture.said import MOST_BYTES
from aot.workloads.capture.writer import Writer
from aot.workloads.logs.bodies import of_url

HOP_BY_HOP = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers",
    "transfer-encoding", "upgrade", "host", "content-length", "proxy-connection",
})  # fmt: skip
"""Headers of one connection (RFC 9110, 7.6.1), and those that are set anew."""
CLIENT_GONE = "the client went away"
LARGEST_BODY = 1 << 30
GRACE_S = 30.0


@dataclass(slots=True)
class Capture:
    """`writer` is given every request to an endpoint of `target` when it is over."""

    target: str
    writer: Writer
    now: Callable[[], float] = time.time
    _session: ClientSession | None = None

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
        await asyncio.to_thread(self.writer.end)

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

    def _note(self, passed: Passed) -> None:
        passed.ended_s = self.now()
        self.writer.take(passed)


class _ClientGoneError(Exception):
    """Nobody takes the answer any more."""
