"""Sweeps, a capacity search and a tuning run on the real vLLM: points share a server, each starts
with an empty cache, and what they find is what the oracle says."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
from support.live import aot, engine_processes, only_run

from aot.analysis.studies import capacity_page, study
from aot.analysis.studies.study import Row
from aot.configs.kernel.places import CONFIGS

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def desk(files: Path) -> Path:
    """A folder with a server of short contexts, and traffic of exact lengths."""
    folder = files / "studies"
    folder.mkdir()
    server = (
        (files / "quick.yaml").read_text().replace("context_tokens: 4096", "context_tokens: 1024")
    )
    (folder / "server.yaml").write_text(server)
    for name, load, requests in (
        ("closed", "{mode: closed, users: 1}", 12),
        ("open", "{mode: open}", 12),
    ):
        (folder / f"{name}.yaml").write_text(
            dedent(f"""\
            scenario: support-bot
            prompt: {CONFIGS / "prompts" / "support-bot"}
            seed: 3
            requests: {requests}
            static_tokens: 416
            dynamic_tokens: 24
            tenants: {{count: 6, zipf: 0}}
            arrivals: {{kind: poisson, rate_per_s: 4}}
            load: {load}
            output: {{max_tokens: 2}}
            """)
        )
    return folder


def experiment(folder: Path, workload: str, arms: str) -> Path:
    path = folder / "experiment.yaml"
    files = f"server: server.yaml\nworkload: {workload}.yaml\n"
    path.write_text(f"name: study\n{files}arms: {arms}\nrepeats: 1\n")
    return path


def starts(folder: Path) -> int:
    """Engines that were started: each left a log."""
    return len(list(folder.glob("points/*/phases/*/server.log")))


def rows(folder: Path) -> dict[tuple[str, str], Row]:
    return {(r.label, r.arm): r for r in study.read(folder).rows}


def test_a_sweep_over_static_lengths_starts_each_arm_once(desk: Path) -> None:
    path = experiment(desk, "closed", "[jit, auto, aot]")
    done = aot("sweep", path, "--over", "static_tokens=0,416", "--runs", desk / "static", cwd=desk)
    assert done.returncode == 0, done.stdout + done.stderr
    assert engine_processes() == []
    folder = only_run(desk / "static")
    assert starts(folder) == 2  # with the cache off, and on
    found = rows(folder)
    for arm in ("jit", "auto", "aot"):
        control = found["static_tokens=0", arm]
        assert control.hit_ratio == control.reachable == 0
        assert not control.void
    long = {arm: found["static_tokens=416", arm] for arm in ("jit", "auto", "aot")}
    assert long["jit"].hit_ratio == 0
    for arm in ("auto", "aot"):
        # An empty cache, though the server has served other points: all as the oracle says.
        assert long[arm].hit_ratio == pytest.approx(long[arm].reachable)
        assert long[arm].hit_ratio == pytest.approx(long[arm].reachable_here)
        assert not long[arm].void
    assert long["auto"].hit_ratio < long["aot"].hit_ratio  # type: ignore[operator]
    assert long["aot"].verdict == "effect"
    for point in study.read(folder).points:
        assert point.evaluation is not None
        arms = point.evaluation.summary["arms"]
        for arm, numbers in arms.items():
            server = numbers["server"]
            assert server["stages"]["ttft"]["requests"] == 12, (point.label, arm)
            assert server["stages"]["prefill"]["mean_s"] <= server["stages"]["ttft"]["mean_s"]
            assert server["overhead_ttft_s"] > 0
        floor = arms["aot"]["floor"]
        assert (floor is None) == (point.label == "static_tokens=0")
        # Of twelve requests the first of each of the five tenants that are drawn is cold.
        assert floor is None or floor["pairs"] == 12 - 5
    assert "static tokens" in (folder / "report.md").read_text()


def test_a_cache_that_is_too_small_finds_what_the_oracle_says(desk: Path) -> None:
    path = experiment(desk, "closed", "[auto]")
    done = aot("sweep", path, "--over", "cache_size=1056,4096", "--runs", desk / "size", cwd=desk)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_run(desk / "size")
    assert starts(folder) == 2
    small, large = (rows(folder)[f"cache_size={n}", "auto"] for n in (1056, 4096))
    assert small.reachable == pytest.approx(large.reachable)
    assert large.hit_ratio == pytest.approx(large.reachable)
    assert small.hit_ratio < large.hit_ratio / 1.5  # type: ignore[operator]
    # The engine's capacity counts the block that is never used, and running requests hold some.
    assert small.hit_ratio == pytest.approx(small.reachable_here, abs=0.08)


def test_a_capacity_is_searched_and_the_search_can_go_on(desk: Path) -> None:
    # jit, because it is slow on any machine: with a warm cache a fast one answers them all at once.
    path = experiment(desk, "open", "[jit]")
    limits = ("--slo", "ttft_p50=3s", "--start", "1.5", "--most-replays", "4")
    done = aot("capacity", path, *limits, "--runs", desk / "capacity", cwd=desk)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_run(desk / "capacity")
    assert starts(folder) == 1
    read, page = capacity_page.of_folder(folder)
    (found,) = capacity_page.capacities(read, [capacity_page.slo.limit("ttft_p50=3s")])
    assert len(found.usable) == 4
    kept = [r.rate_per_s for r in found.usable if r.outcome.kept]
    missed = [r.rate_per_s for r in found.usable if not r.outcome.kept]
    if kept and missed:  # on a machine that is not far slower or faster than those it was made for
        assert found.found is not None
        assert min(kept + missed) <= found.found.rate_per_s <= max(kept + missed)
    assert any(line.startswith("jit: ") for line in page.headlines)
    # Every replay drew arrivals of its own.
    digests = {p.evaluation.run.schedule_sha256 for p in read.points if p.evaluation}
    assert len(digests) == 4
    again = aot("capacity", "--resume", folder, cwd=desk)
    assert again.returncode == 0, again.stderr
    assert "starting" not in again.stderr  # all of it was there


def test_tuning_leaves_out_what_does_not_start_and_compares_the_rest(desk: Path) -> None:
    path = experiment(desk, "closed", "[aot]")
    over = ("--over", "block_size=33,128")
    done = aot("tune", "server.yaml", path, *over, "--runs", desk / "tune", cwd=desk)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = only_run(desk / "tune")
    facts = json.loads((folder / "study.json").read_text())
    assert "needs a multiple of 32" in facts["options"]["failed"]["block_size=33"]
    found = rows(folder)
    # 416 static tokens are 13 blocks of 32, and 3 of 128.
    assert found["as it is", "aot"].hit_ratio > found["block_size=128", "aot"].hit_ratio  # type: ignore[operator]
    assert "times the floor" in (folder / "report.md").read_text()
    assert "Keep the server file as it is" in (folder / "report.md").read_text()
