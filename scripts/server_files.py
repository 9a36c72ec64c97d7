"""Server files as everything that takes one reads them: their shape, and what their engine says."""

from __future__ import annotations

from pathlib import Path

from aot.configs.kernel.errors import ConfigError, UsageError
from aot.configs.loading.load import load_server
from aot.configs.loading.yaml_file import parse
from aot.configs.schema.remote_server import AnyServer, RemoteConfig
from aot.configs.schema.server import ServerConfig
from aot.serving.engines import table


def read(path: Path) -> AnyServer:
    """A server file with its engine's defaults. Raises ConfigError, with the line."""
    server = load_server(path)
    try:
        if isinstance(server, RemoteConfig):
            return table.accepted(server)
        return table.accepted(server)
    except UsageError as error:
        words = str(error)
        key = "tenant_salts" if words.startswith("tenant_salts") else "engine"
        raise ConfigError(path, words, line=parse(path).line_of((key,))) from None


def launched(path: Path, doing: str) -> ServerConfig:
    """The file of a server that is not running yet; ConfigError for one that somebody else runs,
    where there is nothing to do (`doing`: start, render, tune)."""
    server = read(path)
    if isinstance(server, RemoteConfig):
        raise ConfigError(path, f"this server runs already; there is nothing to {doing}", "runtime")
    return server


def check_beside(server: ServerConfig) -> None:
    """UsageError for what cannot stand beside an engine that is started on this machine, in a
    container or without one."""
    events = server.kv_events or ""
    if server.runtime == "docker" and (server.store or events):
        what = "store" if server.store else "kv_events"
        raise UsageError(
            f"{what}: it is had from an engine of this machine, not from a container alone; take "
            "runtime: local, or have all of it in containers: aot render FILE --target compose"
        )
    if events.startswith("tcp://") and "*" not in events:
        # It listens on what has a * only (distributed/kv_events.py, _is_bind_endpoint).
        raise UsageError(
            f"kv_events: vLLM would not listen on {events}, but connect to it; take ipc:///PATH"
        )
