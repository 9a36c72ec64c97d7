"""Results of other tools: in our units, beside our runs, and never as a ratio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.command import Aot, check
from support.made_run import make

from aot.analysis.imported import read

# Keys and units as the tools write them (vllm 0.32, sglang 0.5.23, guidellm 0.8.1); made-up values.
VLLM = {
    "date": "20261124-171217", "endpoint_type": "openai-chat", "backend": "openai-chat",
    "model_id": "m", "num_prompts": 12, "completed": 10, "failed": 2, "request_throughput": 1.5,
    "median_ttft_ms": 250.0, "p99_ttft_ms": 900.0, "median_tpot_ms": 20.0,
}  # fmt: skip
SGLANG = {
    "backend": "sglang", "server_info": {"served_model_name": "m"}, "completed": 10,
    "request_throughput": 2.5, "median_ttft_ms": 100.0, "p99_ttft_ms": 300.0,
    "median_tpot_ms": 10.0, "cache_report": {"cache_hit_rate_pct": 75.0},
}  # fmt: skip


def summary(median: float, p99: float) -> dict[str, Any]:
    return {"successful": {"mean": 1.0, "median": median, "percentiles": {"p99": p99}}}


GUIDELLM = {
    "benchmarks": [
        {
            "metrics": {
                "request_totals": {"successful": 8, "errored": 1, "incomplete": 1, "total": 10},
                "requests_per_second": {"successful": {"mean": 3.5}},
                "time_to_first_token_ms": summary(80.0, 160.0),
                "inter_token_latency_ms": summary(9.0, 11.0),
                "time_per_output_token_ms": summary(99.0, 99.0),
            }
        }
    ]
}


def written(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_each_format_is_read_in_our_units(tmp_path: Path) -> None:
    (vllm,) = read(written(tmp_path, "v.json", json.dumps(VLLM)))
    assert (vllm.ok, vllm.failed, vllm.ttft_p50_s, vllm.ttft_p99_s) == (10, 2, 0.25, 0.9)
    assert (vllm.tpot_p50_s, vllm.requests_per_s, vllm.hit_ratio) == (0.02, 1.5, None)
    assert vllm.started_utc == "2026-11-24 17:12"
    lines = "\n".join([json.dumps(SGLANG), json.dumps(SGLANG | {"completed": 4})])
    first, second = read(written(tmp_path, "s.jsonl", lines + "\n"))
    assert (first.ok, second.ok, first.hit_ratio, first.ttft_p50_s) == (10, 4, 0.75, 0.1)
    assert first.model == "m"
    (guidellm,) = read(written(tmp_path, "g.json", json.dumps(GUIDELLM)))
    assert (guidellm.ok, guidellm.failed, guidellm.requests_per_s) == (8, 2, 3.5)
    assert (guidellm.ttft_p50_s, guidellm.ttft_p99_s, guidellm.tpot_p50_s) == (0.08, 0.16, 0.009)


def test_they_stand_beside_a_run_without_ratios(aot: Aot, tmp_path: Path) -> None:
    make(tmp_path / "run")
    written(tmp_path, "v.json", json.dumps(VLLM))
    done = aot("compare", "run", "v.json")
    check(done, 0)
    assert "vllm bench serve" in done.stdout
    assert "250 ms" in done.stdout
    assert "÷" not in done.stdout
    both = json.loads(aot("compare", "v.json", "run", "--json").stdout)
    assert [r["run"] for r in both["runs"]].count("v.json") == 1
    assert both["differences"] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "no result of vllm bench serve, sglang.bench_serving or guidellm"),
        ("[1, 2]", "expected JSON objects"),
        ('{"backend": "sglang", "median_tt', "not JSON: is the file whole?"),
        ("", "no result in it"),
        ('{"benchmarks": [{"metrics": {}}]}', "benchmark 1 has no 'request_totals'"),
    ],
)
def test_a_file_of_no_known_tool_is_named(aot: Aot, tmp_path: Path, text: str, words: str) -> None:
    make(tmp_path / "run")
    written(tmp_path, "x.json", text)
    check(aot("compare", "run", "x.json"), 2, "x.json", words)
