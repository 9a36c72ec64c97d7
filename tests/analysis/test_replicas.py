"""What a router made of the traffic, worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.made_run import PAGE, PROMPT, make, phase, record

from aot.analysis import report


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """auto on two replicas: the first answers 4 of 6 requests, each finds nothing once."""
    run = make(tmp_path / "run")
    here = run / "phases" / "r1-auto"
    import shutil

    shutil.rmtree(here)
    cold = [record("auto", n, 0.2, 0 if n in (0, 5) else 8) for n in range(6)]
    phase(run, cold, hits=32)
    for name in ("before", "after"):
        (here / f"metrics-{name}.txt").unlink()
    for replica, (requests, hits) in enumerate([(4, 24), (2, 8)]):
        for name, times in (("before", 0), ("after", 1)):
            tokens = times * requests * PROMPT
            page = PAGE.format(
                on=True, queried=tokens, hits=times * hits, prompt=tokens, preempted=0
            )
            page += f"vllm:e2e_request_latency_seconds_sum {times * 2.0}\n"
            page += f'vllm:e2e_request_latency_seconds_bucket{{le="+Inf"}} {times * requests}\n'
            page += f"vllm:e2e_request_latency_seconds_count {times * requests}\n"
            (here / f"metrics-{name}-{replica}.txt").write_text(page)
    (here / "replicas.json").write_text(json.dumps({"alive": [True, True]}))
    return run


def test_replicas_are_counted_apart_and_together(run: Path) -> None:
    arms = report.evaluate(run).summary["arms"]
    routing = arms["auto"]["routing"]
    one, other = routing["replicas"]
    assert (one["requests"], one["prompt_tokens"], one["died"]) == (4, 60, 0)
    assert (one["hit_ratio"], other["hit_ratio"]) == (24 / 60, 8 / 30)
    assert (one["share"], other["share"]) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert routing["imbalance"] == pytest.approx(4 / 3)
    assert (routing["cold_requests"], routing["prefixes"]) == (2.0, 1)
    assert arms["auto"]["cache"]["server_hit_ratio"] == pytest.approx(32 / 90)
    assert arms["jit"]["routing"] is None


def test_the_page_shows_them(run: Path) -> None:
    report.write(run)
    text = (run / "report.md").read_text()
    assert "| auto | 0 | 4 | 60 | 0.6667 | 0.4000 | – |" in text
    assert "auto: 2 cold requests a repeat for 1 static prefixes" in text
    assert "<h3>Replicas</h3>" in (run / "report.html").read_text()


def test_one_cache_for_all_is_no_expectation_behind_a_router(run: Path) -> None:
    checks = {f.check: f for f in report.evaluate(run).findings}
    assert checks["three hit ratios agree within 1 %"].level == "ok"
    assert checks["every replica alive"].level == "ok"


def test_a_replica_that_died_is_named_with_what_failed(run: Path) -> None:
    here = run / "phases" / "r1-auto"
    (here / "replicas.json").write_text(json.dumps({"alive": [False, True]}))
    (here / "metrics-after-0.txt").unlink()
    found = report.evaluate(run)
    finding = next(f for f in found.findings if f.check == "every replica alive")
    assert finding.level == "warning"
    assert "replica 0 died during r1-auto; 0 of 6 requests" in finding.detail
    routing = found.summary["arms"]["auto"]["routing"]
    assert (routing["replicas"][0]["requests"], routing["replicas"][0]["died"]) == (None, 1)
    assert routing["replicas"][0]["share"] is None  # unknown, and so is the whole
    assert found.summary["arms"]["auto"]["cache"]["server_hit_ratio"] is None


def test_gauges_of_replicas_are_added_up(run: Path) -> None:
    here = run / "phases" / "r1-auto"
    rows = [
        {"monotonic_s": 1.0, "running": 1.0, "kv_usage": 0.2, "replica": 0},
        {"monotonic_s": 1.1, "running": 2.0, "kv_usage": 0.4, "replica": 1},
        {"monotonic_s": 2.0, "running": 3.0, "kv_usage": 0.6, "replica": 0},
    ]
    (here / "server.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    gauges = report.evaluate(run).summary["arms"]["auto"]["server"]["gauges"]
    assert gauges["running"] == {"mean": 3.0, "max": 3.0}
    assert gauges["kv_usage"] == {"mean": pytest.approx(0.45), "max": 0.6}


def test_rounds_of_scrapes_end_where_a_dead_replica_is_left_out(run: Path) -> None:
    rows = [(1.0, 0, 1.0), (1.1, 1, 2.0), (2.0, 1, 4.0), (3.0, 1, 5.0)]
    text = [json.dumps({"monotonic_s": t, "running": n, "replica": r}) for t, r, n in rows]
    (run / "phases" / "r1-auto" / "server.jsonl").write_text("\n".join(text) + "\n")
    gauges = report.evaluate(run).summary["arms"]["auto"]["server"]["gauges"]
    assert gauges["running"] == {"mean": 4.0, "max": 5.0}
