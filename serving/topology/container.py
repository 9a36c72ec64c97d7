"""A server file and an arm → the container that serves it, whoever runs it (pure).

The command is the one of a local start, with the container's own paths. Keys go in by reference:
only names of variables are in a plan, as in every plan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from pydantic import SecretStr

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.presets import engine_recipe
from aot.configs.schema.experiment import Arm
from aot.configs.schema.recipe import Device
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.engine import Engine, Packaging
from aot.serving.engines.flags import canonical, has, value_of
from aot.serving.engines.launch_plan import Site
from aot.serving.topology.routers import Place, worker_args
from aot.serving.topology.stores import APART

PORT = 8000
ROUTER_METRICS_PORT = 29000
EVERYWHERE = "0.0.0.0"
CACHE = PurePosixPath("/root/.cache/huggingface")


@dataclass(frozen=True, slots=True)
class Contained:
    """One engine in a container. `secrets` maps its variables to ours that hold the values."""

    engine: str
    image: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    secrets: Mapping[str, str]
    served_name: str
    health_path: str
    health_timeout_s: float
    alive_path: str
    cards: int
    """GPUs of each replica; 0 on a CPU."""
    packaging: Packaging
    model_folder: Path | None
    """A folder of the host with the weights, where they are not from a hub."""
    held: Mapping[str, SecretStr] = field(default_factory=dict)
    """Values of secrets that the server file itself holds, by the container's variable."""
    files: Mapping[PurePosixPath, Path] = field(default_factory=dict)
    """Files of the toolkit that must be in the container, by their paths there."""
    store: str | None = None
    """HOST:PORT of its KV store."""

    @property
    def router_place(self) -> Place:
        """Where a router in a container of its own listens."""
        ports = (PORT, ROUTER_METRICS_PORT)
        return Place(EVERYWHERE, *ports, self.served_name, self.alive_path, EVERYWHERE)


def contain(
    server: ServerConfig,
    arm: Arm,
    engine: Engine,
    model: str,
    drain_s: int | None = None,
    store: str | None = None,
) -> Contained:
    """The container of one replica. `model`: a folder of this machine, or a hub id. `drain_s`: of a
    service that others run: it finishes what runs for so long, and shows what alerts look at.
    `store`: HOST:PORT of its KV store.

    Raises UsageError where no official image is for that, or has what a store needs, and for what
    the engine cannot serve.
    """
    device, packaging = device_of(server), engine.packaging
    if packaging is None:
        raise UsageError(f"engine: {engine.name} is not started by the toolkit")
    folder = Path(model) if Path(model).is_absolute() else None
    site = Site(
        bin_dir=Path("/usr/bin"),
        model=str(PurePosixPath("/models") / folder.name) if folder else model,
        port=PORT,
        device=device,
        serve_args=worker_args(server.front, engine),
        env=APART if store and not (server.store and server.store.address) else {},
        store=store,
    )
    given = canonical(server.args, engine.name)
    # Inside a container all interfaces are its own; who reaches them is decided outside.
    plan = engine.plan(server.model_copy(update={"host": EVERYWHERE}), arm, site)
    command, files = packaging.command(plan.argv, packaging.key_variable in plan.secrets)
    secrets = dict(plan.secrets)
    if server.container.hub_token_env:
        secrets["HF_TOKEN"] = server.container.hub_token_env
    return Contained(
        engine=server.engine,
        image=server.container.image or _image(server, packaging, device, stored=store is not None),
        command=(*command, *_of_a_service(packaging, arm, plan.argv, drain_s)),
        env=plan.env,
        secrets=secrets,
        served_name=plan.served_name,
        health_path=plan.health_path,
        health_timeout_s=engine.health_timeout_s,
        alive_path=engine.alive_path,
        cards=0 if device == "cpu" else server.cards * packaging.more_cards(given),
        packaging=packaging,
        model_folder=folder,
        held={k: v for k, v in plan.held.items() if secrets[k] == k},
        files=files,
        store=store,
    )


def _of_a_service(
    packaging: Packaging, arm: Arm, argv: Sequence[str], drain_s: int | None
) -> tuple[str, ...]:
    """Arguments that a start on one's own machine is without; those that are given stay."""
    if drain_s is None:
        return ()
    drain = packaging.drain(drain_s)
    watched = () if arm == "jit" else packaging.watched_with
    return tuple(
        word
        for words in (drain, watched)
        if words and not has(argv, words[0]) and value_of(argv, words[0]) is None
        for word in words
    )


def toolkit_image(server: ServerConfig) -> str:
    """The image of this toolkit, which is made from its Dockerfile."""
    return server.container.toolkit_image or f"aot:{version('aot-prefix-caching')}"


def device_of(server: ServerConfig) -> Device:
    """The device of the recipe that the file names; a GPU where it names none."""
    return engine_recipe(server.recipe).device if server.recipe != "current" else "cuda"


def version_of(server: ServerConfig) -> str:
    """The version of its engine that the recipe of a server file pins. UsageError without one."""
    name = server.engine if server.recipe == "current" else server.recipe
    recipe = engine_recipe(name)
    pin = re.compile(rf"{server.engine}(?:-cpu)?(?:\[.*\])?==([\w.]+)")
    for requirement in (*recipe.packages, *recipe.packages_without_deps):
        if (version := pin.fullmatch(requirement)) is not None:
            return version[1]
    raise UsageError(f"container.image: the recipe '{name}' pins no version; name an image")


def _image(server: ServerConfig, packaging: Packaging, device: Device, *, stored: bool) -> str:
    if device not in packaging.images:
        raise UsageError(
            f"container.image: {server.engine} has no official image for a {device.upper()}; name "
            "one, or use 'runtime: local'"
        )
    image = packaging.images[device].format(version=version_of(server))
    if stored and device not in packaging.with_stores:
        raise UsageError(
            f"container.image: {image} has no program of a KV store in it; name an image that has, "
            "or go without the store: --arm aot"
        )
    return image
