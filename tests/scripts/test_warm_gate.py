"""The gate beside an engine: what it asks for, and what it says while there is none."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from support.command import Aot, check, started
from support.compiled import compiled_file

from aot.configs.kernel.errors import EndpointError
from aot.configs.kernel.ports import free_port
from aot.scripts.warmed.gate import Gate
from aot.serving.client.endpoint import Endpoint

NOWHERE = "http://127.0.0.1:9"


def test_what_it_needs_is_named(aot: Aot, tmp_path: Path) -> None:
    path = compiled_file(tmp_path / "compiled.json")
    url = ("--url", NOWHERE)
    gate = ("--gate", "127.0.0.1:0")
    check(aot("warm", path, *gate), 2, "--gate stands beside one engine: give one --url")
    check(aot("warm", path, *url, *url, *gate), 2, "give one --url")
    check(aot("warm", path, *url, "--gate", "8100"), 2, "--gate 8100: expected HOST:PORT")
    check(aot("warm", tmp_path / "none.json", *url, *gate), 2, "none.json: no such file")
    (tmp_path / "traffic.yaml").write_text("scenario: few-shot\n")
    check(aot("warm", tmp_path / "traffic.yaml", *url, *gate), 2, "--gate needs compiled prompts")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        check(
            aot("warm", path, *url, "--gate", where), 2, f"--gate {where}: Address already in use"
        )


def test_while_there_is_no_engine_it_says_so(tmp_path: Path) -> None:
    path, port = compiled_file(tmp_path / "compiled.json"), free_port("127.0.0.1")
    process = started("warm", path, "--url", NOWHERE, "--gate", f"127.0.0.1:{port}", cwd=tmp_path)
    base = f"http://127.0.0.1:{port}"
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(f"GET {base}/ready is 200 when")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{base}/ready", timeout=5)
        assert refused.value.code == 503
        refused.value.close()
        with urllib.request.urlopen(f"{base}/live", timeout=5) as alive:
            assert alive.status == 200
        with urllib.request.urlopen(f"{base}/metrics", timeout=5) as page:
            assert b"aot_gate_ready 0.0" in page.read()
    finally:
        process.kill()
        process.communicate()


def test_an_engine_that_does_not_answer_closes_it(tmp_path: Path) -> None:
    def find() -> Endpoint:
        raise EndpointError("nobody there")

    gate = Gate(find, [compiled_file(tmp_path / "compiled.json")])
    gate.state.ready = True
    gate.look()
    assert (gate.state.ready, gate.state.words) == (
        False,
        "the engine does not answer: nobody there",
    )
    assert b"aot_gate_ready 0.0" in gate.state.metrics()


def test_a_server_is_not_started_for_what_cannot_be_warmed(aot: Aot, fake_engine: Path) -> None:
    wrong = fake_engine.with_name("wrong.json")
    wrong.write_text("{}")
    check(aot("serve", fake_engine, "--warm", wrong), 2, "wrong.json: format is None")
    empty = fake_engine.with_name("found")
    empty.mkdir()
    check(aot("serve", fake_engine, "--warm", empty), 2, "found: a folder without compiled prompts")
    right = compiled_file(fake_engine.with_name("right.json"))
    check(aot("serve", fake_engine, "--arm", "jit", "--warm", right), 2, "under jit nothing stays")
