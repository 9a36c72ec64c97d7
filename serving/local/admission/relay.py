"""A port that answers 503 until what is behind it may have traffic, and passes bytes on from then.

For one engine without a router: whoever looks at its health path sees an engine that is warm, or
none. It runs in a process of its own; passing on is bytes, so that streams are as the engine sends
them.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.synchronize import Event

from aot.configs.kernel.children import die_with_parent
from aot.configs.kernel.errors import LaunchError
from aot.configs.kernel.ports import check_port

CLOSED = (
    b'{"error": {"message": "not ready: its static prefixes are being compiled into the cache"}}'
)
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 5\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(CLOSED), CLOSED)
)
PIECE = 65536


class Relay:
    """Closed until `open` is called."""

    def __init__(self, opened: Event) -> None:
        self._opened = opened

    def open(self) -> None:
        self._opened.set()


@contextmanager
def relaying(host: str, port: int, to: tuple[str, int]) -> Iterator[Relay]:
    """Listen on `host`:`port` for as long as the block runs. LaunchError where it is taken."""
    check_port(host, port)
    context = multiprocessing.get_context("fork")
    opened = context.Event()
    listener = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
    )
    process = context.Process(target=_serve, args=(listener, to, opened), daemon=True)
    process.start()
    listener.close()
    try:
        if not process.is_alive():
            raise LaunchError(f"nothing could listen on {host}:{port}")
        yield Relay(opened)
    finally:
        process.terminate()
        process.join()


def _serve(listener: socket.socket, to: tuple[str, int], opened: Event) -> None:
    die_with_parent()
    with suppress(OSError):
        os.setsid()  # Ctrl-C is for the parent, which ends this
    asyncio.run(_accept(listener, to, opened))


async def _accept(listener: socket.socket, to: tuple[str, int], opened: Event) -> None:
    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            if opened.is_set():
                await _pass(reader, writer, to)
            else:
                await reader.read(PIECE)
                writer.write(REFUSAL)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(passed, sock=listener)
    async with server:
        await server.serve_forever()


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: tuple[str, int]
) -> None:
    there_reader, there = await asyncio.open_connection(*to)
    for one in (writer, there):
        one.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await asyncio.gather(_copy(reader, there), _copy(there_reader, writer))
    finally:
        there.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; the other is told."""
    try:
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    finally:
        with suppress(OSError):
            if writer.can_write_eof():
                writer.write_eof()
