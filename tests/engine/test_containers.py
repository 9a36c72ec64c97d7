"""The rendered Compose file and `runtime: docker` with a real engine, where an image of it is.

AOT_TEST_IMAGE names one that has `vllm` for a CPU and `curl`, and for the store LMCache;
AOT_TEST_TOOLKIT what is made from the Dockerfile: scripts/test_images makes both. Compose of 1.29
takes no configs, which are mounted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.engine_answers import MODEL, ask, rules
from support.live import QUICK, aot
from support.processes import own, words

from aot.configs.kernel.ports import free_port
from aot.serving.local import models

IMAGE, TOOLKIT = os.environ.get("AOT_TEST_IMAGE"), os.environ.get("AOT_TEST_TOOLKIT")
COMPOSE = shutil.which("docker-compose")
pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        not (IMAGE and TOOLKIT and COMPOSE),
        reason="needs docker-compose and what scripts/test_images makes",
    ),
]
PROMETHEUS = "aot-test-prometheus"
SERVER = """engine: vllm
environment: vllm-cpu
model: {model}
served_name: {name}
context_tokens: 2048
block_tokens: 32
cache_gib: 0.4
container: {{image: "{image}", shm_gib: 1, toolkit_image: "{toolkit}"}}
args: [{quick}, --enforce-eager]
"""


@pytest.fixture(scope="module")
def shop(files: Path) -> Path:
    folder = files / "boxed"
    folder.mkdir()
    model = models.resolve(MODEL, files)
    (folder / "rules.md").write_text(rules(40, 81) + "\n")
    options = ("--model", MODEL, "--block-tokens", 32, "-o", "compiled.json")
    done = aot("compile", "rules.md", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    text = SERVER.format(model=model, name=MODEL, image=IMAGE, toolkit=TOOLKIT, quick=QUICK)
    (folder / "one.yaml").write_text(f"{text}runtime: docker\n")
    router = "router: {name: vllm-router, policy: cache_aware}\n"
    port = free_port("127.0.0.1")
    pair = f"{text}replicas: 2\n{router}port: {port}\n"
    (folder / "pair.yaml").write_text(pair)
    store = "store: {disk: kv, chunk_tokens: 64, memory_gib: 0.5}\n"
    (folder / "stored.yaml").write_text(pair + store)
    return folder


def found(url: str, folder: Path, number: int) -> int:
    """Cached tokens of one request with the static prefix."""
    static = json.loads((folder / "compiled.json").read_text())["messages"]
    asked = {"role": "user", "content": f"Where is parcel {number}?"}
    usage = ask(url, [*static, asked])["response"]["usage"]
    return int(usage["prompt_tokens_details"]["cached_tokens"])


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


@contextmanager
def composed(folder: Path, server: str = "pair") -> Iterator[None]:
    """A server as Compose has it, up; and nothing of it afterwards."""
    done = aot("render", f"{server}.yaml", "--target", "compose", "--warm", "compiled.json",
               "--monitoring", "-o", "compose.yaml", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())
    del made["services"]["grafana"]  # there is no image of it without a registry
    if docker("images", "-q", PROMETHEUS):
        made["services"]["prometheus"]["image"] = PROMETHEUS
    else:
        del made["services"]["prometheus"]
    for name, config in made.pop("configs").items():
        (folder / name).write_text(config["content"].replace("$$", "$"))
    for service in made["services"].values():
        for config in service.pop("configs", []):
            mount = f"{folder / config['source']}:{config['target']}:ro"
            service.setdefault("volumes", []).append(mount)
    del made["name"]
    (folder / "old.yaml").write_text(yaml.safe_dump({**made, "version": "2.4"}))
    command = [str(COMPOSE), "-p", "aot-boxed", "-f", "old.yaml"]
    try:
        subprocess.run([*command, "up", "-d"], cwd=folder, check=True, capture_output=True)
        yield
    finally:
        subprocess.run([*command, "down", "-v"], cwd=folder, check=True, capture_output=True)
    assert "aot-boxed" not in docker("ps", "-a", "--format", "{{.Names}}")


def ready(service: str) -> bool:
    ask_gate = "import urllib.request as r; r.urlopen('http://127.0.0.1:8100/ready')"
    return not subprocess.run(
        ["docker", "exec", f"aot-boxed_{service}-gate_1", "python", "-c", ask_gate],
        capture_output=True, check=False,
    ).returncode  # fmt: skip


def until(done: bool, service: str) -> None:
    end = time.monotonic() + 240
    while ready(service) is not done:
        assert time.monotonic() < end
        time.sleep(0.5)


def test_a_composed_service_has_traffic_when_it_is_warm(shop: Path) -> None:
    url = f"http://127.0.0.1:{yaml.safe_load((shop / 'pair.yaml').read_text())['port']}"
    with composed(shop):
        time.sleep(5.0)  # the router has seen its workers
        assert [found(url, shop, n) for n in range(4)] == [736] * 4
        pid = int(docker("inspect", "-f", "{{.State.Pid}}", "aot-boxed_engine-0_1"))
        os.kill(pid, signal.SIGKILL)
        until(False, "engine-0")
        until(True, "engine-0")  # it was started again, and warmed again
        assert [found(url, shop, 10 + n) for n in range(4)] == [736] * 4
        if docker("images", "-q", PROMETHEUS):
            check_watched()


def check_watched() -> None:
    """All that is rendered is scraped, and its rules are evaluated."""
    base = "http://127.0.0.1:9090/api/v1"

    def asked(path: str) -> Any:
        with urllib.request.urlopen(f"{base}/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    end = time.monotonic() + 60  # a scrape in 5 s, the rules in 15
    while not asked("query?query=aot:prefix_cache_hit_ratio:rate5m")["result"]:
        assert time.monotonic() < end
        time.sleep(2)
    jobs = sorted((t["labels"]["job"].rpartition("-")[2], t["health"])
                  for t in asked("targets")["activeTargets"])  # fmt: skip
    assert jobs == [("engine", "up")] * 2 + [("gate", "up")] * 2 + [("router", "up")]
    rules = [rule for group in asked("rules")["groups"] for rule in group["rules"]]
    assert rules
    assert [rule["lastError"] for rule in rules if rule.get("lastError")] == []


def from_store(service: str) -> float:
    """Prompt tokens that an engine took from the store since it started."""
    name = "vllm:external_prefix_cache_hits_total"
    text = docker("exec", f"aot-boxed_{service}_1", "curl", "-s", "localhost:8000/metrics")
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_a_store_is_filled_once_and_read_by_all(shop: Path) -> None:
    has_it = ["run", "--rm", "--entrypoint", "python3", str(IMAGE), "-c", "import lmcache"]
    if subprocess.run(["docker", *has_it], capture_output=True, check=False).returncode:
        pytest.skip("the image has no LMCache")
    url = f"http://127.0.0.1:{yaml.safe_load((shop / 'stored.yaml').read_text())['port']}"
    with composed(shop, "stored"):
        time.sleep(5.0)
        assert [found(url, shop, n) for n in range(4)] == [736] * 4
    with composed(shop, "stored"):  # both of them new, and the store, too
        time.sleep(5.0)
        assert [found(url, shop, 10 + n) for n in range(4)] == [736] * 4
        assert all(from_store(f"engine-{n}") >= 704 for n in range(2))
    (disk,) = (shop / "kv").iterdir()  # where the file says
    listed = aot("store", "list", disk, cwd=shop)
    assert listed.returncode == 0, listed.stderr
    assert MODEL in listed.stdout


def test_an_engine_in_docker_is_warm_and_ends_with_the_tool(shop: Path) -> None:
    command = [sys.executable, "-P", "-m", "aot.scripts.cli", "serve", "one.yaml"]
    command += ["--warm", "compiled.json", "--log", "one.log"]
    process = subprocess.Popen(command, cwd=shop, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1].removesuffix("/v1")
    assert found(url, shop, 1) == 736
    assert "aot-one-" in docker("ps", "--format", "{{.Names}}")
    process.kill()
    process.communicate()
    end = time.monotonic() + 40
    while "aot-one-" in docker("ps", "-a", "--format", "{{.Names}}") or any(
        "aot-one-" in " ".join(words(p)) for p in own()
    ):
        assert time.monotonic() < end, "the container, or what watches it, outlives the tool"
        time.sleep(0.3)
