"""Each verb alone against a real SGLang that is up, with a key, and experiments on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
from support.engine_answers import (
    check_checked,
    check_explained,
    check_in_flight_and_expired,
    check_live,
)
from support.engine_audit import check_what_tenants_see
from support.engine_remote import at_every_endpoint, check_far, far
from support.live import KEY, aot, engine_processes, only_run, served
from support.scraped import check_scraped

from aot.configs.kernel.errors import CacheStateError
from aot.scripts.run.session import Session
from aot.scripts.run.target import Up
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.table import engine

pytestmark = pytest.mark.engine


def test_sglang_with_a_key_and_as_a_remote_server(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2E_KEY", KEY)
    with served(files, "hooked") as url:
        key = ("--api-key-env", "E2E_KEY")
        assert aot("warm", "traffic.yaml", "--url", url, cwd=files).returncode == 1
        done = aot("warm", "traffic.yaml", "--url", url, *key, cwd=files)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("hit") == 2
        check_far(far(files, "sglang", url, "api_key_env: E2E_KEY\n", "[jit, auto, aot]"))
        endpoints = ("chat", "completions", "responses", "messages", "generate")
        at_every_endpoint(files, url, endpoints, *key)
        log = check_live(files, "sglang", url, f"ipc://{files}/hooked.sock", 1, "E2E_KEY")
        check_explained(files, log, url, "E2E_KEY")
        check_checked(files, log, url, "E2E_KEY")
        check_scraped(files, "hooked", url, "E2E_KEY")
        check_in_flight_and_expired(files, url, "E2E_KEY")
        refuse_to_flush(url)
        check_what_tenants_see(files, "hooked", url)
        lines = [" ".join(p.cmdline()) for p in engine_processes()]
        assert not any(KEY in line for line in lines)
    assert KEY not in (files / "hooked.log").read_text()
    run = only_run(files / "far-sglang-traffic")
    assert json.loads((run / "manifest.json").read_text())["servers"]["far-sglang"]["versions"] == {
        "sglang": "0.5.23"
    }


def refuse_to_flush(url: str) -> None:
    """While a request runs for longer than the flush waits, the reset is refused by name."""
    body = {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "Count for ever."}],
        "max_tokens": 3000,
        "ignore_eos": True,
        "stream": True,
    }
    endpoint = Endpoint(url, "smollm2-135m", "E2E_KEY")
    target = type("Target", (), {"name": "hooked", "engine": engine("sglang")})()
    session = Session("endpoint")
    headers = {"Authorization": f"Bearer {KEY}"}
    with requests.post(
        f"{url}/v1/chat/completions", json=body, headers=headers, stream=True, timeout=60
    ) as answer:
        lines = answer.iter_lines()  # kept: were it collected, the request would be aborted
        assert next(lines).startswith(b"data: ")  # it runs
        with pytest.raises(CacheStateError, match="requests were still running or waiting after"):
            session._reset(Up(endpoint, None, lambda: True), target)
