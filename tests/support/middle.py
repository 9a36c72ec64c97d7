"""What stands between a client and its server: a forward proxy, and TLS."""

from __future__ import annotations

import select
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

NAME = "engine.test"
"""A server that is known to the proxy alone."""
LOGIN = b"Basic bWU6cHc="


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """`serve` in a thread for every connection to the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def proxied(port: int) -> Iterator[tuple[str, list[str]]]:
    """A forward proxy that knows NAME as `port` of this machine; its URL, and what it was asked."""
    asked: list[str] = []

    def serve(client: socket.socket) -> None:
        with closing(client), suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            line, rest = head.split(b"\r\n", 1)
            asked.append(line.decode() + (" with login" if LOGIN in head else " without"))
            method, url, version = line.split(b" ")
            with closing(socket.create_connection(("127.0.0.1", port))) as upstream:
                if method == b"CONNECT":
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    upstream.sendall(b" ".join([method, urlsplit(url).path, version]))
                    upstream.sendall(b"\r\n" + rest)
                _both_ways(client, upstream)

    with listening(serve) as listens:
        yield f"http://me:pw@127.0.0.1:{listens}", asked


def _both_ways(one: socket.socket, other: socket.socket) -> None:
    pairs = {one: other, other: one}
    while True:
        for source in select.select(list(pairs), [], [])[0]:
            data = source.recv(65536)
            if not data:
                return
            pairs[source].sendall(data)


@contextmanager
def tls(base_url: str, folder: Path) -> Iterator[int]:
    """TLS in front of a server, with a certificate of its own for NAME and 127.0.0.1 that is left
    as cert.pem in `folder`; its port."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", "key.pem", "-out", "cert.pem", "-subj", f"/CN={NAME}"]
    command += ["-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    where = ("127.0.0.1", urlsplit(base_url).port)

    def serve(raw: socket.socket) -> None:
        with (
            suppress(OSError),
            context.wrap_socket(raw, server_side=True) as client,
            closing(socket.create_connection(where)) as upstream,
        ):
            back = threading.Thread(target=_copy, args=(upstream, client), daemon=True)
            back.start()
            _copy(client, upstream)
            back.join()

    with listening(serve) as port:
        yield port


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
