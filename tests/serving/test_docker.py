"""What `docker run` is given, and what is said where there is no Docker; on a script for it."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from support.command import Aot, check

from aot.configs.schema.container import ContainerConfig
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.launch_plan import SECRETS_FILE
from aot.serving.engines.table import engine
from aot.serving.local import docker
from aot.serving.topology.container import contain

GPU = "engine: vllm\nruntime: docker\nmodel: org/m\n"


@pytest.fixture
def server(tmp_path: Path) -> Path:
    path = tmp_path / "server.yaml"
    path.write_text(GPU)
    return path


def fake_docker(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "bin").mkdir()
    command = folder / "bin" / "docker"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:/usr/bin:/bin")


def test_no_two_containers_have_one_name() -> None:
    """One that loses a name to another must not end that one by it."""
    names = {docker.container_name("my server@1", 8000) for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", name) for name in names)


def test_without_docker_the_remedy_is_named(
    server: Path, tmp_path: Path, aot: Aot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    check(aot("serve", server), 1, "there is no docker", "use 'runtime: local'")


def test_an_engine_that_does_not_answer_is_named(
    server: Path, tmp_path: Path, aot: Aot, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_docker(tmp_path, monkeypatch, "echo 'Cannot connect to the daemon' >&2; exit 1")
    check(aot("serve", server), 1, "Cannot connect to the daemon", "systemctl start docker")


def test_an_image_that_cannot_be_had_is_named(
    server: Path, tmp_path: Path, aot: Aot, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = '[ "$1" = version ] && exit 0; echo "manifest unknown"; exit 1'
    fake_docker(tmp_path, monkeypatch, script)
    words = ("container.image: vllm/vllm-openai:v", "manifest unknown", "docker pull")
    check(aot("serve", server), 1, *words)


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_keys_are_passed_by_name(name: str) -> None:
    env = {"CUDA_VISIBLE_DEVICES": "2,3"}
    config = ServerConfig(engine=name, model="org/m", gpus=2, api_key_env="MY_KEY", env=env)
    contained = contain(config, "aot", engine(name), "org/m")
    made = docker.plan(contained, ContainerConfig(), ("127.0.0.1", 9000), ["2", "3"], "aot-x")
    pairs = list(pairwise(made.argv))
    (variable,) = made.secrets
    assert ("--env-file", SECRETS_FILE) in pairs
    assert f"<(printf '%s\\n' {variable}=\"$MY_KEY\")" in made.as_shell()
    assert ("-p", "127.0.0.1:9000:8000") in pairs
    assert ("--gpus", '"device=2,3"') in pairs
    assert not any("MY_KEY" in word for word in made.argv)
    assert made.argv.index("--entrypoint") < made.argv.index(contained.image)
    assert made.container == "aot-x"
    assert not any("CUDA_VISIBLE" in word for word in made.argv)  # numbers of the host
