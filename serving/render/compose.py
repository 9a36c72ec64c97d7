"""`aot render --target compose`: a server file as a Docker Compose file (pure).

One service a replica, each with its own cards, and the router in front of them. The file names
variables that hold keys; Compose takes their values from the environment or from `.env`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from aot.configs.schema.server import ServerConfig
from aot.serving.topology.container import CACHE, EVERYWHERE, PORT, Contained
from aot.serving.topology.routers import ROUTERS, Place, by_urls, in_container

TIMES = {"interval": "15s", "retries": 5}


def render(
    name: str, server: ServerConfig, contained: Contained, texts: Mapping[PurePosixPath, str]
) -> dict[str, Any]:
    """The whole file, as data. `texts`: what is in the files that the container needs."""
    front = server.front
    names = [f"engine-{n}" for n in range(server.replicas)] if front else ["engine"]
    services = {
        service: _engine(server, contained, number, public=not front)
        for number, service in enumerate(names)
    }
    if front:
        services["router"] = _router(server, contained, names)
    files = {_config(path): {"content": text} for path, text in texts.items()}
    return {"name": name, "services": services, **({"configs": files} if files else {})}


def _engine(
    server: ServerConfig, contained: Contained, number: int, public: bool
) -> dict[str, Any]:
    container = server.container
    volumes = [f"{container.model_cache}:{CACHE}"]
    if contained.model_folder:
        volumes.append(f"{contained.model_folder}:/models/{contained.model_folder.name}:ro")
    service: dict[str, Any] = {
        "image": contained.image,
        "entrypoint": [contained.command[0]],
        # Compose itself fills in what a $ stands before.
        "command": [word.replace("$", "$$") for word in contained.command[1:]],
        "environment": {
            **{name: value.replace("$", "$$") for name, value in contained.env.items()},
            **_by_reference(contained),
        },
        "volumes": volumes,
        "restart": container.restart,
        "healthcheck": {
            "test": ["CMD", "curl", "-fsS", f"http://localhost:{PORT}{contained.health_path}"],
            "timeout": f"{contained.health_timeout_s:.0f}s",
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
    if public:
        service["ports"] = [f"{server.host}:{server.port or PORT}:{PORT}"]
    if container.ipc_host:
        service["ipc"] = "host"
    else:
        service["shm_size"] = f"{container.shm_gib}gb"
    if contained.cards:
        cards = range(number * contained.cards, (number + 1) * contained.cards)
        device = {"driver": "nvidia", "device_ids": list(map(str, cards)), "capabilities": ["gpu"]}
        service["deploy"] = {"resources": {"reservations": {"devices": [device]}}}
    return service


def _config(path: PurePosixPath) -> str:
    """What a file is called among the configs."""
    return path.stem.replace("_", "-")


def _by_reference(contained: Contained) -> dict[str, str]:
    """Variables that must be set when it is started; Compose says so where they are not."""
    return {
        key: f"${{{source}:?set {source} in the environment or in .env}}"
        for key, source in contained.secrets.items()
    }


def _router(server: ServerConfig, contained: Contained, names: list[str]) -> dict[str, Any]:
    front = server.front
    assert front is not None
    finding = by_urls([f"http://{name}:{PORT}" for name in names])
    place = Place(EVERYWHERE, PORT, PORT + 1, contained.served_name, contained.alive_path)
    image, command = in_container(ROUTERS[front.name], front, finding, place)
    return {
        "image": image,
        "command": command,
        "ports": [f"{server.host}:{server.port or PORT}:{PORT}"],
        "restart": server.container.restart,
        "depends_on": {name: {"condition": "service_healthy"} for name in names},
    }
