"""Opens connections to one server: looked up before the clock starts, through the proxy that the
environment names, with TLS where the server has it. On gevent's sockets."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from errno import EINPROGRESS
from os import strerror
from typing import Any
from urllib.parse import urlsplit

from gevent import socket

from aot.configs.kernel import network

HEAD_BYTES = 65536


@dataclass(slots=True)
class Opening:
    """How a connection to the server of `base_url` is made."""

    base_url: str
    target: str
    """The path of requests behind the base URL; then, what stands between the method and the
    version in a request's first line."""
    host: str = ""
    """What requests name in their Host header."""
    headers: dict[str, str] = field(default_factory=dict)
    """What the proxy wants to be told in every request."""
    _proxy: network.Proxy | None = None
    # Once: loading the certificates takes some 40 ms, in which no chunk would be stamped.
    _tls: Any = None
    _server: tuple[str, int] = ("", 0)
    _addresses: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        url = urlsplit(self.base_url)
        secure = url.scheme == "https"
        self._tls = network.trusting() if secure else None
        self._server = (url.hostname or "", url.port or (443 if secure else 80))
        self.host = url.netloc.rpartition("@")[2]
        self.target = url.path.rstrip("/") + self.target
        self._proxy = network.proxy(self.base_url)
        if self._proxy and not secure:
            self.target = f"http://{self.host}{self.target}"
            self.headers = self._proxy.headers
        with suppress(OSError):  # unknown now: looked up again, and told, when it is needed
            self._look_up()

    @property
    def is_secure(self) -> bool:
        return self._tls is not None

    def open(self, within_s: float) -> Any:
        """A connection that requests can be written to. Raises OSError where none can be made,
        TimeoutError among them."""
        connection = self._connect()
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection.settimeout(within_s)
                if self._proxy:
                    self._tunnel(connection, self._proxy)
                connection = self._tls.wrap_socket(connection, server_hostname=self._server[0])
            connection.settimeout(None)
            return connection
        except BaseException:
            connection.close()
            raise

    def _tunnel(self, connection: Any, proxy: network.Proxy) -> None:
        """Have the proxy pass on what is encrypted (RFC 9110, CONNECT)."""
        host, port = self._server
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = {"Host": name, **proxy.headers}
        text = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        connection.sendall(f"CONNECT {name} HTTP/1.1\r\n{text}\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n") and len(head) < HEAD_BYTES:
            piece = connection.recv(1)
            if not piece:
                raise ConnectionError(f"the proxy {proxy.url} closed the connection")
            head += piece
        status = head.split(b"\r\n", 1)[0].decode(errors="replace")
        if status.split(" ")[1:2] != ["200"]:
            raise ConnectionError(f"the proxy {proxy.url} answered: {status}")

    def _look_up(self) -> None:
        """Once, and before the clock: gevent does it in a thread, for numbers too, and the loop
        would wait some 10 ms for that thread to start, and again whenever a stream starts."""
        host, port = (self._proxy.host, self._proxy.port) if self._proxy else self._server
        try:
            self._addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise OSError(f"{host}: {error.strerror}") from None

    def _connect(self) -> Any:
        if not self._addresses:
            self._look_up()
        failure: OSError | None = None
        for family, kind, protocol, _, address in self._addresses:
            connection = socket.socket(family, kind, protocol)
            try:
                code = connection._sock.connect_ex(address)
                if code == EINPROGRESS:
                    socket.wait_write(connection.fileno())
                    code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code == 0:
                    return connection
                failure = OSError(code, strerror(code))
            except BaseException:
                connection.close()
                raise
            connection.close()
        raise failure or OSError(f"{self._server[0]}: no address")
