"""Results of other benchmark tools, as rows beside our own: `aot compare RUN result.json`.

vllm      the JSON of `vllm bench serve --save-result` (0.32)
sglang    the JSON lines of `python -m sglang.bench_serving --output-file` (0.5.23), a row each
guidellm  the JSON of `guidellm benchmark --output-path x.json` (0.8), a row each benchmark

Their requests are other requests, so nothing is paired and no ratio is given. Times are seconds
here. guidellm calls "inter token latency" what is TPOT elsewhere, and "time per output token" E2E
divided by tokens; the former is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aot.analysis.across import Row
from aot.configs.kernel.errors import UsageError

Facts = dict[str, Any]
UNKNOWN = "unknown"


def read(path: Path) -> list[Row]:
    """The rows of a result file. Raises UsageError for one that is of none of these tools."""
    rows = [row for facts in _objects(path) for row in _rows(path, facts)]
    if not rows:
        raise UsageError(f"{path}: no result in it")
    return rows


def _objects(path: Path) -> list[Facts]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    try:
        values = [json.loads(text)]
    except ValueError:
        values = [_line(path, n, t) for n, t in enumerate(text.splitlines(), 1) if t.strip()]
    if not all(isinstance(v, dict) for v in values):
        raise UsageError(f"{path}: expected JSON objects, got something else")
    return values


def _line(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise UsageError(f"{path}:{number}: not JSON: is the file whole?") from None


def _rows(path: Path, facts: Facts) -> Iterator[Row]:
    if isinstance(facts.get("benchmarks"), list):
        for number, benchmark in enumerate(facts["benchmarks"], 1):
            yield _guidellm(path, number, benchmark)
    elif "median_ttft_ms" in facts and "model_id" in facts:
        yield _vllm(path, facts)
    elif "median_ttft_ms" in facts and "backend" in facts:
        yield _sglang(path, facts)
    else:
        raise UsageError(
            f"{path}: not a run directory, and no result of vllm bench serve, sglang.bench_serving "
            "or guidellm that is known here"
        )


def _vllm(path: Path, facts: Facts) -> Row:
    # 20261124-171217
    date = str(facts.get("date", ""))
    when = f"{date[:4]}-{date[4:6]}-{date[6:8]} {date[9:11]}:{date[11:13]}" if date else UNKNOWN
    sent, ok = facts.get("num_prompts"), int(facts.get("completed") or 0)
    failed = facts.get("failed")
    if failed is None:
        failed = int(sent) - ok if sent is not None else 0
    return _row(
        path, "vllm bench serve", str(facts.get("model_id") or UNKNOWN), ok, int(failed), when,
        _seconds(facts, "median_ttft_ms"), _seconds(facts, "p99_ttft_ms"),
        _seconds(facts, "median_tpot_ms"), facts.get("request_throughput"), None,
    )  # fmt: skip


def _sglang(path: Path, facts: Facts) -> Row:
    server = facts.get("server_info") or {}
    share = (facts.get("cache_report") or {}).get("cache_hit_rate_pct")
    return _row(
        path, f"sglang.bench_serving ({facts['backend']})",
        str(server.get("served_model_name") or server.get("model_path") or UNKNOWN),
        int(facts.get("completed") or 0), 0, UNKNOWN,
        _seconds(facts, "median_ttft_ms"), _seconds(facts, "p99_ttft_ms"),
        _seconds(facts, "median_tpot_ms"), facts.get("request_throughput"),
        None if share is None else share / 100,
    )  # fmt: skip


def _guidellm(path: Path, number: int, benchmark: Facts) -> Row:
    try:
        metrics = benchmark["metrics"]
        totals = metrics["request_totals"]
        ttft, tpot = (
            metrics[name].get("successful") or {}
            for name in ("time_to_first_token_ms", "inter_token_latency_ms")
        )
        rate = (metrics["requests_per_second"].get("successful") or {}).get("mean")
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: benchmark {number} has no {error}: another version?") from None
    return _row(
        path, f"guidellm, benchmark {number}", UNKNOWN, int(totals.get("successful") or 0),
        int(totals.get("errored") or 0) + int(totals.get("incomplete") or 0), UNKNOWN,
        _seconds(ttft, "median"), _seconds(ttft.get("percentiles") or {}, "p99"),
        _seconds(tpot, "median"), rate, None,
    )  # fmt: skip


def _seconds(facts: Facts, key: str) -> float | None:
    value = facts.get(key)
    return value / 1000 if isinstance(value, int | float) else None


def _row(path: Path, tool: str, model: str, ok: int, failed: int, when: str, *numbers: Any) -> Row:
    ttft_p50_s, ttft_p99_s, tpot_p50_s, requests_per_s, hit_ratio = numbers
    return Row(
        run=path.name, started_utc=when, server=UNKNOWN, engine=tool, model=model, machine=UNKNOWN,
        arm="–", ok=ok, failed=failed, ttft_p50_s=ttft_p50_s, ttft_p99_s=ttft_p99_s,
        tpot_p50_s=tpot_p50_s, requests_per_s=requests_per_s, hit_ratio=hit_ratio,
        schedule_sha256=None, void=False,
    )  # fmt: skip
