"""The port before one engine: closed until it may have traffic, then bytes both ways."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aot.configs.kernel.errors import LaunchError
from aot.configs.kernel.ports import free_port
from aot.serving.local.admission.relay import relaying

HOST = "127.0.0.1"


@contextmanager
def engine(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Answers each connection with `answer`, in two pieces, and keeps what it was sent."""
    heard: list[bytes] = []
    with socket.create_server((HOST, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    there, _ = listener.accept()
                except OSError:
                    return
                with there:
                    heard.append(there.recv(65536))
                    there.sendall(answer[:20])
                    there.sendall(answer[20:])

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], heard
        listener.shutdown(socket.SHUT_RDWR)


def test_it_is_closed_until_it_is_opened() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    port = free_port(HOST)
    with engine(answer) as (behind, heard), relaying(HOST, port, (HOST, behind)) as relay:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5)
        assert refused.value.code == 503
        assert b"being compiled into the cache" in refused.value.read()
        refused.value.close()
        assert heard == []
        relay.open()
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as seen:
            assert seen.read() == b"hello"
        assert heard[0].startswith(b"GET /health HTTP/1.1\r\n")
    with pytest.raises(OSError, match="refused"), socket.create_connection((HOST, port), timeout=1):
        pass


def test_an_engine_that_is_gone_ends_the_connection() -> None:
    port = free_port(HOST)
    with relaying(HOST, port, (HOST, free_port(HOST))) as relay:
        relay.open()
        with socket.create_connection((HOST, port), timeout=5) as there:
            there.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert there.recv(100) == b""


def test_a_port_that_is_taken_is_named() -> None:
    with (
        socket.create_server((HOST, 0)) as taken,
        pytest.raises(LaunchError, match="is in use by another process"),
        relaying(HOST, taken.getsockname()[1], (HOST, 1)),
    ):
        pass
