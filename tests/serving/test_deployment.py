"""Replicas and their router started and stopped together, on scripts in their places."""

from __future__ import annotations

import shutil
from pathlib import Path

import psutil
import pytest
from support.command import Aot, check

from aot.configs.kernel.errors import LaunchError
from aot.scripts.run import launch


def child_pid(log: Path) -> int:
    return int(log.read_text().split("INFO child ")[1].split()[0])


def test_all_are_up_inside_the_block_and_gone_after_it(fake_router: Path, tmp_path: Path) -> None:
    with launch.prepare(fake_router).up("auto", tmp_path / "server.log") as up:
        assert up.replicas_alive == [True, True]
        assert up.alive
        assert len(set(up.replica_urls) | {up.plan.base_url}) == 3
        logs = [tmp_path / f"server{n}.log" for n in ("", "-0", "-1")]
        children = [child_pid(log) for log in logs]
        workers = (tmp_path / "server.log").read_text().splitlines()[0]
        assert all(url in workers for url in up.replica_urls)
    assert not up.alive
    assert not any(psutil.pid_exists(pid) for pid in children)


def test_one_replica_may_die(fake_router: Path, tmp_path: Path) -> None:
    with launch.prepare(fake_router).up("auto", tmp_path / "server.log") as up:
        endpoint = launch.prepare(fake_router).endpoint(up)
        assert [e.base_url for e in endpoint.each()] == list(up.replica_urls)
        supervisor = psutil.Process(up.replicas[0]._process.pid)
        for process in supervisor.children():
            process.kill()
        psutil.wait_procs([supervisor], timeout=20)
        assert up.replicas_alive == [False, True]
        assert up.alive
        assert up.wait(print) is up.replicas[0]


def test_a_replica_that_dies_at_start_takes_the_others_with_it(
    fake_router: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "dies")
    with (
        pytest.raises(
            LaunchError, match=r"(?s)vllm died at start-up.*server-0\.log.*no kernel image"
        ),
        launch.prepare(fake_router).up("auto", tmp_path / "server.log"),
    ):
        pass


def test_a_replica_that_is_never_healthy_is_named(
    fake_router: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "never-healthy")
    fake_router.write_text(fake_router.read_text().replace("timeout_s: 60", "timeout_s: 2"))
    with (
        pytest.raises(LaunchError, match=r"(?s)was not healthy after 2 s.*server-0\.log"),
        launch.prepare(fake_router).up("auto", tmp_path / "server.log"),
    ):
        pass


def test_a_router_that_is_not_installed_is_named_with_its_remedy(
    fake_router: Path, tmp_path: Path, aot: Aot
) -> None:
    shutil.rmtree(tmp_path / "home" / ".engines" / "vllm-router")
    done = aot("serve", fake_router)
    check(done, 1, "router environment 'vllm-router' is not installed", "aot router install vllm")


def test_dry_run_shows_every_command(fake_router: Path, aot: Aot) -> None:
    lines = aot("serve", fake_router, "--dry-run", "--arm", "auto").stdout.splitlines()
    assert len(lines) == 3
    assert all("vllm serve" in line and "--enable-scale-out" in line for line in lines[:2])
    assert "--worker-urls http://127.0.0.1:" in lines[2]


def test_misspelt_policies_and_numbers_are_named(fake_router: Path, aot: Aot) -> None:
    text = fake_router.read_text()
    fake_router.write_text(text + "router: {policy: cache-aware}\n")
    check(aot("serve", fake_router), 2, "router.policy", "'cache_aware'")
    fake_router.write_text(text.replace("replicas: 2", "replicas: 0"))
    check(aot("serve", fake_router), 2, "replicas", "greater than or equal to 1")


def test_salts_that_a_router_would_drop_are_refused_before_anything_starts(
    fake_router: Path, aot: Aot
) -> None:
    router = "router: {name: sglang-router, policy: cache_aware}\ntenant_salts: true\n"
    fake_router.write_text(fake_router.read_text() + router)
    words = "tenant_salts: sglang-router drops a request's cache_salt"
    check(aot("serve", fake_router), 2, "replicas.yaml", words, "{name: smg, policy: cache_aware}")


def test_an_engine_without_memory_is_told_how_to_find_out_what_fits(
    fake_engine: Path, aot: Aot
) -> None:
    done = aot("serve", fake_engine, FAKE_MODE="no-memory")
    check(done, 1, "No available memory for the cache blocks", "aot doctor --server")
    assert str(fake_engine) in done.stderr
    done = aot("serve", fake_engine, FAKE_MODE="dies")
    check(done, 1, "no kernel image")
    assert "aot doctor" not in done.stderr
