"""An engine that began anew during a replay is found out; nothing is concluded of its counters."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.made_run import make

from aot.analysis import report
from aot.serving.metrics.counters import CacheCounters, parse
from aot.serving.metrics.resets import impossible, reset

BEFORE = """\
# TYPE process_start_time_seconds gauge
process_start_time_seconds 1000.5
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{model_name="a"} 100
vllm:prefix_cache_queries_total{model_name="b"} 0
# TYPE vllm:prefix_cache_queries_created gauge
vllm:prefix_cache_queries_created{model_name="a"} 1001.0
# TYPE ttft_seconds histogram
ttft_seconds_bucket{le="0.1"} 5
ttft_seconds_bucket{le="+Inf"} 7
ttft_seconds_count 7
ttft_seconds_sum 3.5
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running 9
"""


def test_one_process_is_one_process() -> None:
    later = BEFORE.replace("running 9", "running 0").replace(
        'total{model_name="a"} 100', 'total{model_name="a"} 300'
    )
    assert reset(parse(BEFORE), parse(later)) is None
    assert reset(parse(BEFORE), parse(BEFORE)) is None
    assert reset({}, parse(BEFORE)) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seconds 1000.5", "seconds 2000.5", "process_start_time_seconds is 1000 s later"),
        ('created{model_name="a"} 1001', 'created{model_name="a"} 1101', "_created is 100 s later"),
        ('total{model_name="a"} 100', 'total{model_name="a"} 99', "fell from 100 to 99"),
        ('le="0.1"} 5', 'le="0.1"} 4', "ttft_seconds_bucket fell from 5 to 4"),
        ('vllm:prefix_cache_queries_total{model_name="a"} 100\n', "", "is gone"),
    ],
)
def test_every_counter_and_every_time_of_a_start_is_looked_at(
    old: str, new: str, words: str
) -> None:
    assert old in BEFORE
    assert words in (reset(parse(BEFORE), parse(BEFORE.replace(old, new))) or "")


def test_counters_that_know_less_than_the_clients_are_not_ok(tmp_path: Path) -> None:
    run = make(tmp_path / "made")
    for name in ("before", "after"):
        page = run / "phases" / "r1-auto" / f"metrics-{name}.txt"
        page.write_text(
            page.read_text().replace("prompt_tokens_total 140", "prompt_tokens_total 60")
        )
    findings = {f.check: f for f in report.evaluate(run).findings}
    found = findings["engine counters over the replay"]
    assert found.level == "warning"
    assert (
        "r1-auto: clients were answered 90 prompt tokens, and the engine counted 10" in found.detail
    )


@pytest.mark.parametrize(
    ("queried", "prompt", "hits", "possible"),
    [
        (200, 200, 290, False),
        (None, 200, 290, False),
        (200, 500, 290, False),
        (300, 200, 290, True),
        (None, None, 290, True),
        (200, 200, None, True),
        (200, 200, 200, True),
    ],
)
def test_no_more_is_found_than_was_looked_up(
    queried: float | None, prompt: float | None, hits: float | None, possible: bool
) -> None:
    counted = CacheCounters(queried, hits, prompt, None, None)
    assert (impossible(counted) is None) == possible
