"""`aot capture`: the proxy on its address, until it is told to end."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from aot.configs.kernel import network
from aot.configs.kernel.errors import UsageError
from aot.scripts.prompts.compiling import tokenizer_of
from aot.workloads.capture.log import CaptureLog
from aot.workloads.capture.passed import Lines
from aot.workloads.capture.private import Blocks
from aot.workloads.capture.proxy import GRACE_S, Capture
from aot.workloads.capture.writer import Writer

KEY_BYTES = 32


def prepare(
    to: str,
    log: CaptureLog,
    lines: Lines,
    report: Callable[[str], None],
) -> Capture:
    """A proxy whose log is open, to be served. UsageError for what is no address, or no file."""
    target = network.base_url(to, "--to").rstrip("/")
    writer = Writer(log, lines, report)
    try:
        writer.start()
    except OSError as error:
        raise UsageError(f"-o {log.path}: {error.strerror or error}") from None
    return Capture(target, writer)


def blocks(key_file: Path, model: str, block_tokens: int) -> Blocks:
    """With the key in a file, which is made, readable by its owner only, where it is not there."""
    tokenizer = tokenizer_of(model)
    if not key_file.exists():
        descriptor = os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(KEY_BYTES))
    try:
        key = bytes.fromhex(key_file.read_text(encoding="utf-8").strip())
    except ValueError:
        raise UsageError(f"--key-file {key_file}: expected hexadecimal digits") from None
    if not key:
        raise UsageError(f"--key-file {key_file}: is empty")
    return Blocks(key, block_tokens, tokenizer.encode)


def serve(capture: Capture, listen: str, ready: Callable[[str], None]) -> None:
    """Until SIGINT or SIGTERM; streams that are under way then have some seconds to end.

    UsageError where the address cannot be listened on.
    """
    import uvloop

    gc.freeze()  # a collection holds up all streams: there is little to collect, and rarely
    gc.set_threshold(50_000, 50, 50)
    try:
        host, _, port = listen.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise UsageError(f"--listen {listen}: expected HOST:PORT")
        uvloop.run(_serve(capture, host, int(port), ready))
    finally:
        capture.writer.end()


async def _serve(capture: Capture, host: str, port: int, ready: Callable[[str], None]) -> None:
    runner = web.AppRunner(capture.app(), access_log=None, shutdown_timeout=GRACE_S)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise UsageError(f"--listen {host}:{port}: {error.strerror or error}") from None
        _, bound = runner.addresses[0][:2]
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, ended.set)
        ready(f"http://{host}:{bound}")
        await ended.wait()
    finally:
        await runner.cleanup()
