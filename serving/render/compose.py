"""`aot render --target compose`: a server file as a Docker Compose file (pure).

One service a replica, each with its own cards; beside each, under the arm aot, the gate that
compiles prefixes into its cache; the router, which waits for them; and Prometheus and Grafana where
they are asked for. The file names variables that hold keys; Compose takes their values from the
environment or from `.env`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from aot.configs.kernel.ports import joined
from aot.configs.schema.server import ServerConfig
from aot.serving.render import gate
from aot.serving.render.pod import WARM_S
from aot.serving.render.stored import DISK, VALUES, Store
from aot.serving.render.watching.in_compose import Monitoring
from aot.serving.render.watching.in_compose import services as watching
from aot.serving.topology import stores
from aot.serving.topology.container import CACHE, PORT, Contained, toolkit_image
from aot.serving.topology.routers import ROUTERS, by_urls, in_container

TIMES = {"interval": "15s", "retries": 5}
STORE = "store"
"""The service, and so the host, of the KV store."""


class Reference(str):
    """Text in which Compose is to fill in variables; all other text it must leave as it is."""

    __slots__ = ()


def render(
    name: str,
    server: ServerConfig,
    contained: Contained,
    texts: Mapping[PurePosixPath, str],
    warmed: gate.Warmed | None = None,
    monitoring: Monitoring | None = None,
    store: Store | None = None,
) -> dict[str, Any]:
    """The whole file, as data. `texts`: what is in the files that the container needs. `warmed`:
    what is compiled into each engine's cache. `store`: the one that all engines share."""
    front = server.front
    names = [f"engine-{n}" for n in range(server.replicas)] if front else ["engine"]
    services = {
        service: _engine(server, contained, number, public=not front)
        for number, service in enumerate(names)
    }
    if store:
        for engine in names:
            services[engine]["depends_on"] = {STORE: {"condition": "service_healthy"}}
            services[engine]["labels"] = _made_for(store)
        services[STORE] = _store(server, store)
    configs = {_config(path): {"content": text} for path, text in texts.items()}
    gates = {f"{engine}-gate": engine for engine in names} if warmed else {}
    if warmed:
        services |= {g: _gate(server, contained, warmed, e) for g, e in gates.items()}
        configs |= {
            f"compiled-{n}": {"content": text} for n, text in enumerate(warmed.texts.values())
        }
    if front:
        services["router"] = _router(server, contained, names, list(gates) or names)
    if monitoring:
        more, files = watching(monitoring, names, gates, bool(front))
        services, configs = {**services, **more}, {**configs, **files}
    made = {"name": name, "services": services, **({"configs": configs} if configs else {})}
    escaped: dict[str, Any] = _escaped(made)
    return escaped


def _escaped(value: Any) -> Any:
    """Compose itself fills in what a $ stands before, wherever it stands."""
    if isinstance(value, Reference):
        return str(value)
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _engine(
    server: ServerConfig, contained: Contained, number: int, public: bool
) -> dict[str, Any]:
    container = server.container
    volumes = [f"{container.model_cache}:{CACHE}"]
    if contained.model_folder:
        volumes.append(f"{contained.model_folder}:/models/{contained.model_folder.name}:ro")
    path, timeout_s = contained.alive_path, contained.health_timeout_s
    service: dict[str, Any] = {
        "image": contained.image,
        "entrypoint": [contained.command[0]],
        "command": list(contained.command[1:]),
        "environment": {**contained.env, **_by_reference(contained)},
        "volumes": volumes,
        "restart": container.restart,
        "stop_grace_period": f"{container.drain_s + 15}s",
        "healthcheck": {
            "test": ["CMD", "curl", "-fsS", f"http://localhost:{PORT}{path}"],
            "timeout": f"{timeout_s:.0f}s",
            "start_period": f"{server.startup_timeout_s:.0f}s",
            **TIMES,
        },
    }
    if contained.packaging.ulimits:
        service["ulimits"] = contained.packaging.ulimits
    if contained.files:
        service["configs"] = [
            {"source": _config(path), "target": str(path)} for path in contained.files
        ]
    ports = _events(server.kv_events) if server.kv_events else []
    if public:
        ports.append(f"{joined(server.host, server.port or PORT)}:{PORT}")
    if ports:
        service["ports"] = ports
    if container.ipc_host:
        service["ipc"] = "host"
    else:
        service["shm_size"] = f"{container.shm_gib}gb"
    if contained.cards:
        cards = range(number * contained.cards, (number + 1) * contained.cards)
        device = {"driver": "nvidia", "device_ids": list(map(str, cards)), "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    return service


def _events(endpoint: str) -> list[str]:
    """Where the host has KV events, and their history on the next port."""
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    there = "" if host == "*" else f"{host}:"
    return [f"{there}{n}:{n}" for n in (int(port), int(port) + 1)]


def _config(path: PurePosixPath) -> str:
    """What a file is called among the configs."""
    return path.stem.replace("_", "-")


def _by_reference(contained: Contained) -> dict[str, str]:
    """Variables that must be set when it is started; Compose says so where they are not. A hub's
    token is passed on where there is one: gated weights need it."""
    given = {
        key: Reference(f"${{{source}:?set {source} in the environment or in .env}}")
        for key, source in contained.secrets.items()
    }
    if "HF_TOKEN" in contained.env:
        return dict(given)
    return {"HF_TOKEN": Reference("${HF_TOKEN:-}"), **given}


def _gate(
    server: ServerConfig, contained: Contained, warmed: gate.Warmed, engine: str
) -> dict[str, Any]:
    source = contained.secrets.get(contained.packaging.key_variable)
    ask = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{gate.PORT}/ready', timeout=3)"
    service: dict[str, Any] = {
        "image": warmed.image,
        "command": gate.arguments(f"http://{engine}:{PORT}", source is not None),
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "python", "-c", ask],
            **TIMES,
            "start_period": f"{server.startup_timeout_s + WARM_S:.0f}s",
        },
        "depends_on": {engine: {"condition": "service_started"}},
    }
    if source:
        key = contained.packaging.key_variable
        service["environment"] = {gate.KEY: _by_reference(contained)[key]}
    if warmed.texts:
        service["configs"] = [
            {"source": f"compiled-{n}", "target": path} for n, path in enumerate(warmed.files)
        ]
    else:
        service["volumes"] = [f"./compiled.json:{warmed.files[0]}:ro"]
    return service


def _store(server: ServerConfig, store: Store) -> dict[str, Any]:
    program, *arguments = store.command
    ask = f"import socket; socket.create_connection(('127.0.0.1', {stores.PORT}), 3)"
    service: dict[str, Any] = {
        "image": store.image,
        "entrypoint": [program],
        "command": arguments,
        "environment": dict(stores.QUIET),
        "labels": _made_for(store),
        "restart": server.container.restart,
        "healthcheck": {"test": ["CMD", "python3", "-c", ask], **TIMES, "start_period": "300s"},
    }
    return {**service, "volumes": [f"{store.folder}:{DISK}"]} if store.folder else service


def _made_for(store: Store) -> dict[str, str]:
    """Compose makes anew what has another label: a store with other values in its memory, and
    engines with it, which have asked it for the size of its chunks."""
    return {VALUES: store.values}


def _router(
    server: ServerConfig, contained: Contained, names: list[str], before: list[str]
) -> dict[str, Any]:
    """`before`: what must be healthy first."""
    front = server.front
    assert front is not None
    finding = by_urls([f"http://{name}:{PORT}" for name in names])
    program, *arguments = in_container(ROUTERS[front.name], front, finding, contained.router_place)
    return {
        "image": toolkit_image(server),
        "entrypoint": [program],
        "command": arguments,
        "ports": [f"{joined(server.host, server.port or PORT)}:{PORT}"],
        "restart": server.container.restart,
        "depends_on": {name: {"condition": "service_healthy"} for name in before},
    }
