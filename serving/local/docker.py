"""`runtime: docker`: a container instead of a process, started and ended like one.

`docker run` stays in the foreground under our supervisor, which ends the container by its name,
since it is no child of ours. Secrets are handed over in a file that is open for docker alone, so
that no process list, log or record shows them (`docker inspect` does, to who may ask it).
"""

from __future__ import annotations

import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Sequence

from aot.configs.kernel.children import follow
from aot.configs.kernel.errors import LaunchError, NotInstalledError
from aot.configs.schema.container import ContainerConfig
from aot.serving.engines.launch_plan import SECRETS_FILE, LaunchPlan
from aot.serving.topology.container import CACHE, PORT, Contained
from aot.serving.topology.shares import CARDS_VARIABLE

PROBE_S = 30.0


def check() -> None:
    """NotInstalledError, with what mends it, where no container can be run."""
    if shutil.which("docker") is None:
        raise NotInstalledError(
            "runtime: docker: there is no docker on this machine; install Docker Engine "
            "(https://docs.docker.com/engine/install/), or use 'runtime: local'"
        )
    try:
        done = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True, text=True, timeout=PROBE_S, check=False,
        )  # fmt: skip
        words = done.stderr.strip().splitlines()
        fine = done.returncode == 0
    except subprocess.TimeoutExpired:
        words, fine = ["no answer"], False
    if not fine:
        why = words[-1] if words else "no answer"
        raise NotInstalledError(
            f"runtime: docker: the Docker engine does not answer ({why}); start it (sudo systemctl "
            "start docker) and let this user use it (sudo usermod -aG docker $USER), or use "
            "'runtime: local'"
        )


def pull(image: str, report: Callable[[str], None]) -> None:
    """Have `image` here. Raises LaunchError, with Docker's own words, where it cannot be had."""
    here = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    if here.returncode == 0:
        return
    lines = [""]

    def tell(line: str) -> None:
        lines.append(line.strip())
        report(f"pulling {image}: {lines[-1][:100]}")

    if follow(["docker", "pull", image], tell):
        raise LaunchError(
            f"container.image: {image} cannot be had: {lines[-1]}; check its name and tag: "
            f"docker pull {image}"
        )


def plan(
    contained: Contained,
    container: ContainerConfig,
    place: tuple[str, int],
    cards: Sequence[str],
    name: str,
) -> LaunchPlan:
    """The `docker run` whose port PORT is published at `place`, on these cards."""
    host, port = place
    argv = ["docker", "run", "--rm", "--name", name]
    argv += ["-p", f"[{host}]:{port}:{PORT}" if ":" in host else f"{host}:{port}:{PORT}"]
    if contained.cards:
        argv += ["--gpus", f'"device={",".join(cards)}"']
    argv += ["--ipc", "host"] if container.ipc_host else ["--shm-size", f"{container.shm_gib}g"]
    argv += ["-v", f"{container.model_cache.expanduser()}:{CACHE}"]
    if contained.model_folder:
        argv += ["-v", f"{contained.model_folder}:/models/{contained.model_folder.name}:ro"]
    for inside, path in contained.files.items():
        argv += ["-v", f"{path}:{inside}:ro"]
    for key, value in contained.env.items():
        # Inside, the cards that it gets have numbers from 0 on.
        argv += ["-e", f"{key}={value}"] if key != CARDS_VARIABLE else []
    if contained.secrets:
        argv += ["--env-file", SECRETS_FILE]
    program, *rest = contained.command
    return LaunchPlan(
        argv=(*argv, "--entrypoint", program, contained.image, *rest),
        env={},
        secrets=contained.secrets,
        not_inherited=(),
        host=host,
        port=port,
        health_path=contained.health_path,
        served_name=contained.served_name,
        container=name,
        held=contained.held,
    )


def container_name(server: str, port: int) -> str:
    """A name that Docker takes ([a-zA-Z0-9][a-zA-Z0-9_.-]+), for the server file's; nobody else has
    it, so that what is ended by it is ours."""
    readable = re.sub(r"[^a-zA-Z0-9_.-]+", "-", server)
    return f"aot-{readable}-{port}-{secrets.token_hex(4)}"
