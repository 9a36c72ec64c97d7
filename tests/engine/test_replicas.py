"""Two real replicas behind real routers: what affinity gives, and what a death costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.live import aot, engine_processes, only_run, served
from support.processes import words

from aot.configs.kernel.places import CONFIGS
from aot.serving.local import supervisor

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def routers(installed: Path) -> Path:
    for name in ("vllm-router", "sglang-router", "smg"):
        done = aot("router", "install", name, cwd=installed)
        assert done.returncode == 0, done.stderr
    return installed


def test_a_prefix_kept_on_its_replica_is_found_there(routers: Path, tmp_path: Path) -> None:
    shipped = (CONFIGS / "experiments" / "routing.yaml").read_text().replace("../", f"{CONFIGS}/")
    (tmp_path / "routing.yaml").write_text(f"{shipped}repeats: 1\n")
    done = aot("run", tmp_path / "routing.yaml", "--runs", tmp_path / "runs", cwd=routers)
    assert done.returncode == 0, done.stderr
    summary = json.loads((only_run(tmp_path / "runs") / "summary.json").read_text())
    aware, turns = (
        summary["servers"][name]["arms"]["auto"] for name in ("replicas", "replicas-round-robin")
    )
    hits = [arm["cache"]["client_hit_ratio"] for arm in (aware, turns)]
    assert hits[0] >= 1.5 * hits[1]
    for arm in (aware, turns):
        assert arm["cache"]["server_hit_ratio"] == pytest.approx(arm["cache"]["client_hit_ratio"])
        assert sum(r["requests"] for r in arm["routing"]["replicas"]) == arm["requests"]["ok"] == 96
    # Once each is the ideal; a replica that got five of the eight evicts some of them.
    assert 8 <= aware["routing"]["cold_requests"] < turns["routing"]["cold_requests"]
    assert engine_processes() == []


def far_pair(folder: Path, url: str) -> Path:
    """An experiment over two engines that `aot serve pair.yaml` has started, and their router."""
    commands = [(folder / f"pair-{n}.log").read_text().split("\n")[0] for n in (0, 1)]
    engines = [f"http://127.0.0.1:{c.split('--port ')[1].split()[0]}" for c in commands]
    (folder / "far-pair.yaml").write_text(
        f"engine: sglang\nruntime: remote\nurl: {url}\nreplicas: {engines}\n"
        "keeps_owners: true\ntokenizer: smollm2-135m\n"
    )
    (folder / "few.yaml").write_text(
        f"scenario: support-bot\nprompt: {CONFIGS / 'prompts' / 'support-bot'}\nrequests: 8\n"
        "tenants: {count: 4, zipf: 0}\nload: {mode: closed, users: 2}\noutput: {max_tokens: 2}\n"
    )
    path = folder / "far.yaml"
    path.write_text(
        "name: far\nserver: far-pair.yaml\nworkload: few.yaml\narms: [jit, aot]\nrepeats: 1\n"
    )
    return path


def sglang_pair(folder: Path, router: str) -> None:
    server = (CONFIGS / "servers" / "demo-sglang.yaml").read_text()
    router = f"{{name: {router}, policy: cache_aware}}"
    (folder / "pair.yaml").write_text(f"{server}replicas: 2\nrouter: {router}\n")


def test_sglang_replicas_that_run_already_behind_their_router(routers: Path) -> None:
    sglang_pair(routers, "smg")
    with served(routers, "pair") as url:
        done = aot("run", far_pair(routers, url), "--runs", "far", cwd=routers)
        assert done.returncode == 0, done.stderr + done.stdout
    arms = json.loads((only_run(routers / "far") / "summary.json").read_text())["arms"]
    for arm in arms.values():
        cache = arm["cache"]
        assert cache["server_hit_ratio"] == pytest.approx(cache["client_hit_ratio"])
        assert sum(r["requests"] for r in arm["routing"]["replicas"]) == arm["requests"]["ok"] == 8
    assert arms["jit"]["cache"]["cached_tokens"] == 0
    assert arms["aot"]["cache"]["client_hit_ratio"] > 0.9
    assert arms["aot"]["routing"]["cold_requests"] == 0


def test_a_router_that_drops_salts_is_found_out(routers: Path) -> None:
    sglang_pair(routers, "sglang-router")
    with served(routers, "pair") as url:
        done = aot("run", far_pair(routers, url), "--runs", "dropped", cwd=routers)
        assert done.returncode == 1
        assert "something drops cache_salt on the way" in done.stderr
        options = ("--salts", "--trials", "8", "--json", "audit.json")
        done = aot("audit", "isolation", url, *options, cwd=routers)
        assert done.returncode == 1, done.stdout
    assert json.loads((routers / "audit.json").read_text())["verdict"] == "leak"


def kill_one_replica(phase: Path) -> None:
    """With SIGKILL, once a fifth of the requests has been answered."""
    records = phase / "records" / "requests-0.jsonl"
    until = time.monotonic() + 240
    while time.monotonic() < until:
        if records.exists() and records.read_bytes().count(b"\n") > 20:
            break
        time.sleep(0.1)
    command = (phase / "server-0.log").read_text().splitlines()[0]
    port = command.split("--port ")[1].split()[0]
    for process in engine_processes():
        found = words(process)
        supervised = supervisor.__file__ in found  # which ends what a dead engine leaves
        if port in found and "--port" in found and not supervised:
            with suppress(psutil.Error):  # killing one may end another
                process.kill()


def test_a_replica_that_dies_loses_only_what_it_had_under_way(
    routers: Path, tmp_path: Path
) -> None:
    server = (CONFIGS / "servers" / "replicas.yaml").read_text()
    server = server.replace("vllm-router, policy: cache_aware", "smg, policy: consistent_hash")
    (tmp_path / "two.yaml").write_text(server.replace("2560", "8192"))
    (tmp_path / "death.yaml").write_text(
        f"name: death\nserver: two.yaml\narms: [aot]\n"
        f"workload: {CONFIGS / 'workloads' / 'eight-tenants.yaml'}\n"
    )
    command = [
        sys.executable,
        "-P",
        "-m",
        "aot.scripts.cli",
        "run",
        str(tmp_path / "death.yaml"),
    ]
    command += ["--runs", str(tmp_path / "runs")]
    process = subprocess.Popen(command, cwd=routers, stderr=subprocess.PIPE, text=True)
    try:
        while not (found := list((tmp_path / "runs").glob("*/phases/r1-aot"))):
            assert process.poll() is None
            time.sleep(0.2)
        kill_one_replica(found[0])
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    summary: dict[str, Any] = json.loads((found[0].parents[1] / "summary.json").read_text())
    requests = summary["arms"]["aot"]["requests"]
    assert requests["planned"] == 96
    # Closed loop: four are under way at a time. smg sends those again that had no answer yet.
    assert 0 <= requests["failed"] <= 4
    assert process.returncode == (1 if requests["failed"] else 0), errors
    assert requests["ok"] + requests["failed"] == 96
    detail = next(f["detail"] for f in summary["findings"] if f["check"] == "every replica alive")
    assert f"replica 0 died during r1-aot; {requests['failed']} of 96 requests failed" in detail
    psutil.wait_procs(engine_processes(), timeout=30)
    assert engine_processes() == []
