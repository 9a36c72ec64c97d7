"""A server file and an arm → the container that serves it, whoever runs it (pure).

The command is the one of a local start, with the container's own paths. Keys go in by reference:
only names of variables are in a plan, as in every plan.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.presets import engine_recipe
from aot.configs.schema.experiment import Arm
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.engine import Engine, Site
from aot.serving.engines.sglang import LAUNCHER
from aot.serving.topology.routers import worker_args

PORT = 8000
EVERYWHERE = "0.0.0.0"
CACHE = PurePosixPath("/root/.cache/huggingface")
LAUNCHER_INSIDE = PurePosixPath("/aot/sglang_server.py")
IMAGES = {
    ("vllm", "cuda"): "vllm/vllm-openai:v{version}",
    ("vllm", "cpu"): "vllm/vllm-openai-cpu:v{version}-x86_64",
    ("sglang", "cuda"): "lmsysorg/sglang:v{version}",
}
"""Official images by engine and device: docs/deployment/docker.md of vLLM, docker/ of SGLang."""
Device = Literal["cpu", "cuda"]


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
    model_folder: Path | None
    """A folder of the host with the weights, where they are not from a hub."""
    files: Mapping[PurePosixPath, Path] = field(default_factory=dict)
    """Files of the toolkit that must be in the container, by their paths there."""


def contain(server: ServerConfig, arm: Arm, engine: Engine, model: str) -> Contained:
    """The container of one replica. `model`: a folder of this machine, or a hub id.

    Raises UsageError where no official image is for that, and for what the engine cannot serve.
    """
    device = device_of(server)
    folder = Path(model) if Path(model).is_absolute() else None
    site = Site(
        bin_dir=Path("/usr/bin"),
        model=str(PurePosixPath("/models") / folder.name) if folder else model,
        port=PORT,
        device=device,
        serve_args=worker_args(server.front, server.engine),
        env={},
    )
    # Inside a container all interfaces are its own; who reaches them is decided outside.
    plan = engine.plan(server.model_copy(update={"host": EVERYWHERE}), arm, site)
    command, files = _command(server.engine, plan.argv, bool(plan.secrets))
    secrets = dict(plan.secrets)
    if server.container.hub_token_env:
        secrets["HF_TOKEN"] = server.container.hub_token_env
    return Contained(
        engine=server.engine,
        image=server.container.image or _image(server.engine, device),
        command=command,
        env=plan.env,
        secrets=secrets,
        served_name=plan.served_name,
        health_path=plan.health_path,
        health_timeout_s=engine.health_timeout_s,
        alive_path=engine.alive_path,
        cards=0 if device == "cpu" else server.cards,
        model_folder=folder,
        files=files,
    )


def device_of(server: ServerConfig) -> Device:
    """The device of the recipe that the file names; a GPU where it names none."""
    return engine_recipe(server.recipe).device if server.recipe != "current" else "cuda"


def _command(
    engine: str, argv: tuple[str, ...], has_key: bool
) -> tuple[tuple[str, ...], dict[PurePosixPath, Path]]:
    """The same command by the names that the images have for it."""
    if engine == "vllm":
        return ("vllm", *argv[1:]), {}
    if not has_key:
        return ("python3", "-m", "sglang.launch_server", *argv[2:]), {}
    # SGLang takes a key as an argument only: our launcher reads it from a variable instead.
    return ("python3", str(LAUNCHER_INSIDE), *argv[2:]), {LAUNCHER_INSIDE: LAUNCHER}


def version_of(engine: str) -> str:
    """The version that the engine's recipe pins."""
    recipe = engine_recipe(engine)
    pins = [*recipe.packages, *recipe.packages_without_deps]
    found = [m[1] for p in pins if (m := re.fullmatch(rf"{engine}(?:\[.*\])?==([\w.]+)", p))]
    return found[0]


def _image(engine: str, device: Device) -> str:
    try:
        return IMAGES[engine, device].format(version=version_of(engine))
    except KeyError:
        raise UsageError(
            f"container.image: {engine} has no official image for a {device.upper()}; name one, "
            "or use 'runtime: local'"
        ) from None
