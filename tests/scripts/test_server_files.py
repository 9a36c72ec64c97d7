"""What a server file may say, and what its engine says to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aot.configs.kernel.errors import ConfigError
from aot.scripts.server_files import launched, read


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: x\nengine: vlm\n", "s.yaml:2: unknown engine 'vlm', did you mean 'vllm'?; known"),
        ("engine: openai\nmodel: x\n", "s.yaml:1: engine: openai is any server that runs already"),
        (
            "engine: openai\nruntime: remote\nurl: http://x\ntenant_salts: true\n",
            "s.yaml:4: tenant_salts: an openai server takes no cache salts",
        ),
        ("engine: lama\nruntime: remote\nurl: http://x\n", "unknown engine 'lama'"),
    ],
)
def test_what_no_engine_takes_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(path)
    assert words in str(caught.value)


def test_replicas_have_the_router_of_their_engine(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    for engine in ("vllm", "sglang"):
        for router in ("", "router: {policy: round_robin}\n"):
            path.write_text(f"engine: {engine}\nmodel: x\nreplicas: 2\n{router}")
            front = launched(path, "start").front
            assert front is not None
            assert front.name == f"{engine}-router"
    path.write_text("engine: sglang\nmodel: x\nreplicas: 2\nrouter: {name: smg}\n")
    front = launched(path, "start").front
    assert front is not None
    assert front.name == "smg"
