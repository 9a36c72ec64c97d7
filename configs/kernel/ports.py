"""Ports of this machine that are free now."""

from __future__ import annotations

import errno
import secrets
import socket
from contextlib import suppress

from aot.configs.kernel.errors import LaunchError, UsageError

PORTS = range(20_000, 32_000)
"""Below the ephemeral range: there any process could be given a port before its server listens."""
_given: set[int] = set()


def free_port(host: str) -> int:
    """A port that is free on `host` now, and that this process has not given before: between this
    and the moment when its server listens nobody else is given it. UsageError when `host` is not
    ours; LaunchError when none is left."""
    _bindable(host, 0)
    start = secrets.randbelow(len(PORTS))  # other processes look at the same time
    for step in range(len(PORTS)):
        port = PORTS[(start + step) % len(PORTS)]
        if port in _given:
            continue
        with suppress(LaunchError):
            _bindable(host, port)
            _given.add(port)
            return port
    raise LaunchError(f"no port of {PORTS.start} to {PORTS.stop - 1} is free on {host}")


def address(text: str, option: str) -> tuple[str, int]:
    """HOST:PORT, as given with `option`; UsageError where it is none."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise UsageError(f"{option} {text}: expected HOST:PORT")
    return host, int(port)


def joined(host: str, port: int) -> str:
    """HOST:PORT; an address with colons of its own stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_port(host: str, port: int) -> None:
    """LaunchError when another process holds `port`; UsageError when `host` is not ours."""
    _bindable(host, port)


def _bindable(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UsageError(f"host: cannot listen on {host}:{port}: {error}") from None
            raise LaunchError(
                f"port {port} on {host} is in use by another process; set 'port: 0' in the "
                f"server file for a free one, or find the holder: ss -ltnp 'sport = :{port}'"
            ) from None
        bound: int = probe.getsockname()[1]
        return bound
