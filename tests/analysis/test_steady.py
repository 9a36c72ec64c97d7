"""What is measured, what is left out, what keeps its limits, and what a longer run would change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.made_run import make, phase, record

from aot.analysis import report
from aot.analysis.checks import steady
from aot.scripts.bench.simulated import queue


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make(tmp_path / "run")


def configure(run: Path, workload: dict[str, Any], experiment: dict[str, Any]) -> None:
    path = run / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["configs"] = {"workload": workload, "experiment": experiment}
    path.write_text(json.dumps(manifest))


def details(run: Path, check: str) -> list[tuple[str, str]]:
    found = report.evaluate(run).findings
    return [(f.level, f.detail) for f in found if f.check == check]


def test_goodput_counts_what_keeps_every_limit(run: Path) -> None:
    configure(run, {"slo": {"ttft_s": 1.25, "tpot_s": None, "e2e_s": 1.35}}, {})
    arms = report.evaluate(run).summary["arms"]
    # jit: TTFT 1.0 … 1.5, E2E 1.2 … 1.7: the first two keep both; 4.2 s of replay
    assert arms["jit"]["goodput"]["share"] == pytest.approx(2 / 6)
    assert arms["jit"]["goodput"]["requests_per_s"] == pytest.approx(2 / 4.2)
    assert arms["aot"]["goodput"]["share"] == 1
    report.write(run)
    for page in ("report.html", "report.md"):
        text = (run / page).read_text()
        assert "within SLO (TTFT ≤ 1.25 s" in text
        assert "33.3 %" in text


def test_without_an_slo_there_is_no_goodput(run: Path) -> None:
    assert report.evaluate(run).summary["arms"]["jit"]["goodput"] is None
    report.write(run)
    assert "within SLO" not in (run / "report.html").read_text()


def test_what_is_skipped_counts_for_hit_ratios_only(run: Path) -> None:
    configure(run, {}, {"skip_first": 1, "skip_last": 2})
    made = report.evaluate(run)
    jit = made.summary["arms"]["jit"]
    assert jit["ttft_s"]["p50"] == pytest.approx(1.2)  # of 1.1, 1.2, 1.3
    assert jit["requests"]["ok"] == 6
    assert made.summary["comparison"]["pairs"] == 3
    assert made.summary["arms"]["aot"]["cache"]["cached_tokens"] == 48
    [(level, words)] = details(run, "warm-up and cool-down")
    assert level == "ok"
    assert "the first 1 and the last 2 requests" in words


def test_skipping_everything_is_void(run: Path) -> None:
    configure(run, {}, {"skip_first": 4, "skip_last": 2})
    assert details(run, "warm-up and cool-down")[0][0] == "void"


def rows(ttfts: list[float]) -> pd.DataFrame:
    sent = [n * 0.1 for n in range(len(ttfts))]
    ended = [s + t for s, t in zip(sent, ttfts, strict=True)]
    return pd.DataFrame(
        {"arm": "jit", "repeat": 1, "planned_s": sent, "sent_s": sent, "last_token_s": ended}
    )


def test_a_queue_that_grows_is_pointed_out() -> None:
    [found] = steady.saturation(rows([0.1 * n for n in range(60)]))
    assert found.level == "warning"
    assert "r1-jit from" in found.detail
    [calm] = steady.saturation(rows([0.45] * 60))
    assert calm.level == "ok"
    assert "stay as many" in calm.detail
    assert list(steady.saturation(rows([0.1 * n for n in range(20)]))) == []


def courses(load: float, count: int) -> dict[str, float]:
    """How often each course is told of a queue that is offered `load` times what it can serve."""
    rng = np.random.default_rng(5)
    told = {"grows": 0, "stays": 0, "open": 0}
    for _ in range(200):
        sent = np.cumsum(rng.exponential(1 / load, count))
        times = queue(sent, rng.lognormal(-0.125, 0.5, count))
        frame = pd.DataFrame({"sent_s": sent, "last_token_s": sent + times})
        told[steady.course(steady.in_flight(frame))] += 1
    return {course: number / 200 for course, number in told.items()}


@pytest.mark.parametrize("count", [100, 300, 1000])
def test_near_its_capacity_a_queue_is_not_said_to_grow(count: int) -> None:
    assert courses(0.95, count)["grows"] <= 0.1
    assert courses(0.7, count)["stays"] >= 0.92


@pytest.mark.parametrize(("load", "count"), [(1.4, 100), (1.2, 300), (1.1, 1000)])
def test_above_it_a_queue_is_never_said_to_stay(load: float, count: int) -> None:
    found = courses(load, count)
    assert found["grows"] >= 0.85
    assert found["stays"] <= 0.08


@pytest.mark.parametrize(("factor", "level"), [(1.0, "ok"), (3.0, "warning")])
def test_the_control_must_show_no_effect(run: Path, factor: float, level: str) -> None:
    import shutil

    shutil.rmtree(run / "phases" / "r1-auto")
    records = [record("auto", n, (1.0 + n / 10) * factor, 0) for n in range(6)]
    phase(run, records, hits=0)
    [(found, words)] = details(run, "no effect where nothing is cached")
    assert found == level
    assert f"TTFT jit ÷ auto is {1 / factor:.2f}" in words
