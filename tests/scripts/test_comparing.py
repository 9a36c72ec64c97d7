"""Several runs: side by side, against a baseline, over time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.command import Aot, check
from support.made_run import make, phase, record

from aot.workloads.requests import schedule as schedule_file


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """one and two: the same run, the second 30 % slower in aot."""
    (tmp_path / "runs").mkdir()
    for name in ("one", "two"):
        make(tmp_path / "runs" / name)
    slower(tmp_path / "runs" / "two", 1.3)
    return tmp_path / "runs"


def slower(run: Path, factor: float) -> None:
    shutil.rmtree(run / "phases" / "r1-aot")
    phase(run, [record("aot", n, (0.1 + n / 100) * factor, 8) for n in range(6)], hits=48)


def manifest(run: Path, **changes: Any) -> None:
    path = run / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_runs_are_compared_over_the_same_requests(aot: Aot, runs: Path) -> None:
    slower(runs / "two", 4)
    done = aot("compare", "runs/one", "runs/two")
    check(done, 0)
    assert max(map(len, done.stdout.splitlines())) <= 80
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["one", "÷", "two:"] in lines
    assert ["aot", "TTFT", "p50", "0.25"] in [line[:4] for line in lines]
    assert next(x for x in lines if x[:3] == ["aot", "TTFT", "p50"])[5:7] == ["6", "effect:"]
    assert ["jit", "TTFT", "p50", "1.00"] in [x[:4] for x in lines]
    found = json.loads(aot("compare", "runs/one", "runs/two", "--json").stdout)
    assert len(found["runs"]) == 6
    assert {d["verdict"]["kind"] for d in found["differences"] if d["found"]["ci95"]} >= {"effect"}


def test_runs_of_other_traffic_are_refused_until_told(aot: Aot, runs: Path) -> None:
    path = runs / "two" / "schedule.jsonl"
    before = schedule_file.digest(path)
    path.write_text(path.read_text().replace('"seed":1', '"seed":2'))
    for records in runs.glob("two/phases/*/records/*.jsonl"):
        records.write_text(records.read_text().replace(before, schedule_file.digest(path)))
    done = aot("compare", "runs/one", "runs/two")
    check(done, 2, "replayed different schedules", "--different-schedules")
    limit = ("--max-regression", "ttft_p50=5%")
    done = aot("gate", "runs/two", "--against", "runs/one", *limit)
    check(done, 2, "replayed different schedules", "measure both with the same workload file")
    done = aot("compare", "runs/one", "runs/two", "--different-schedules")
    check(done, 0)
    assert "÷" not in done.stdout


@pytest.mark.parametrize(
    ("limits", "code", "words"),
    [
        (["ttft_p50=150%"], 0, "pass ttft_p50 0.125 s 0.1625 s +30.0%"),
        # Six requests, each 30 % slower, once: more than another start of the server makes of it,
        (["ttft_p50=5%"], 1, "regression ttft_p50"),
        # though not by how much.
        (["ttft_p50=50%"], 3, "not settled ttft_p50"),
        (["hit_ratio=0%", "requests_per_s=50%"], 0, "pass hit_ratio 53.3% 53.3%"),
        (["requests_per_s=5%"], 3, "not settled requests_per_s"),
        (["ttft_p99=5%"], 3, "not settled ttft_p99"),
    ],
)
def test_the_gate(aot: Aot, runs: Path, limits: list[str], code: int, words: str) -> None:
    options = [x for text in limits for x in ("--max-regression", text)]
    done = aot("gate", "runs/two", "--against", "runs/one", *options)
    assert done.returncode == code
    assert words in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_the_gate_lets_better_runs_pass_and_stops_much_worse_ones(aot: Aot, runs: Path) -> None:
    slower(runs / "two", 4)
    limit = ("--max-regression", "ttft_p50=0%")
    done = aot("gate", "runs/one", "--against", "runs/two", *limit)
    check(done, 0)
    assert "-75.0%" in done.stdout
    done = aot("gate", "runs/two", "--against", "runs/one", *limit)
    assert done.returncode == 1
    assert "regression ttft_p50" in " ".join(done.stdout.split())


def test_the_gate_says_what_else_differs(aot: Aot, runs: Path) -> None:
    manifest(runs / "one", machine={"cpu": "another CPU", "gpus": []})
    done = aot("gate", "runs/one", "--against", "runs/two", "--max-regression", "ttft_p50=90%")
    check(done, 0, "note: machine a CPU in the baseline, another CPU now")


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("ttft_p50", "write METRIC=PERCENT%"),
        ("ttft_p50=5", "write METRIC=PERCENT%"),
        ("ttft_p75=5%", "not a metric; there are ttft_p50"),
    ],
)
def test_a_wrong_limit_is_named(aot: Aot, runs: Path, limit: str, words: str) -> None:
    del runs
    done = aot("gate", "runs/two", "--against", "runs/one", "--max-regression", limit)
    check(done, 2, words)


def test_the_gate_refuses_void_runs_and_missing_arms(aot: Aot, runs: Path) -> None:
    options = ("--against", "runs/one", "--max-regression", "ttft_p50=5%")
    shutil.rmtree(runs / "two" / "phases" / "r1-auto")
    check(aot("gate", "runs/two", *options, "--arm", "auto"), 2, "no arm 'auto'", "jit, aot")
    (runs / "two" / "phases" / "r1-aot" / "warm.json").unlink()
    check(aot("gate", "runs/two", *options), 2, "the run is void")


def test_history_is_in_order_of_time_and_leaves_out_what_is_no_run(aot: Aot, runs: Path) -> None:
    manifest(runs / "one", started_utc="2026-02-01 00:00:00 UTC")
    (runs / "old").mkdir()
    (runs / "old" / "manifest.json").write_text('{"name": "x", "engine": "vllm"}')
    (runs / "empty").mkdir()
    done = aot("history", "runs", "--arm", "aot", "--json")
    check(done, 0, "old/manifest.json: written by another version", "empty: no run directory")
    assert [r["run"] for r in json.loads(done.stdout)] == ["two", "one"]
    assert "two" in aot("history", "runs").stdout


def test_history_of_nothing_is_an_error(aot: Aot, tmp_path: Path) -> None:
    check(aot("history", "nowhere"), 2, "no such folder")
    (tmp_path / "runs").mkdir()
    check(aot("history", "runs"), 2, "no run in it")


@pytest.mark.parametrize("text", ["[]", "3", '{"name": "x"}', '{"servers": {"a": {}}}'])
def test_a_foreign_manifest_is_an_error_that_says_so(aot: Aot, runs: Path, text: str) -> None:
    (runs / "one" / "manifest.json").write_text(text)
    before = sorted((runs / "one").iterdir())
    check(aot("report", "runs/one"), 2, "manifest.json: written by another version", "lacks")
    assert sorted((runs / "one").iterdir()) == before
