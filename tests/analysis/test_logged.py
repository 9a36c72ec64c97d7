"""What the log's own server counted, beside what the replay of the same requests had."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from support.made_run import COUNT, PROMPT, make

from aot.analysis import report
from aot.analysis.measures import logged as logged_measure
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Request, Schedule, Served


def logged(run: Path, *served: Served | None) -> Path:
    """The schedule of `run` as one of a log; its requests in turn have `served`."""
    made = schedule_file.read(run / "schedule.jsonl")
    rows = [
        replace(r, messages=(), body={"messages": list(r.messages)}, served=served[n % len(served)])
        for n, r in enumerate(made.requests)
    ]
    path = run / "schedule.jsonl"
    before = schedule_file.digest(path)
    schedule_file.write(replace(made, requests=tuple(rows)), path)
    for record in run.glob("phases/*/records/requests-0.jsonl"):
        record.write_text(record.read_text().replace(before, schedule_file.digest(path)))
    return run


def test_the_counts_of_a_log_come_back_from_its_schedule(tmp_path: Path) -> None:
    run = logged(make(tmp_path / "run"), Served(15, 8, 3), None)
    served = [r.served for r in schedule_file.read(run / "schedule.jsonl").requests]
    assert served == [Served(15, 8, 3), None] * (COUNT // 2)


def test_what_was_served_then_stands_beside_what_is_now(tmp_path: Path) -> None:
    made = report.evaluate(logged(make(tmp_path / "run"), Served(PROMPT, 4, 3), Served(PROMPT, 2)))
    log = made.summary["arms"]["aot"]["log"]
    same = {"requests": 6, "logged": 90, "replayed": 90, "ratio": 1.0}
    assert log["prompt_tokens"] == same
    assert log["output_tokens"] == {"requests": 3, "logged": 9, "replayed": 9, "ratio": 1.0}
    assert log["hit_ratio"] == {
        "requests": 6, "logged": pytest.approx(18 / 90), "replayed": pytest.approx(48 / 90),
    }  # fmt: skip
    assert not [f for f in made.findings if f.check == "prompts as long as in the log"]
    report.write(tmp_path / "run")
    page = (tmp_path / "run" / "report.md").read_text()
    assert "| aot | 90 | 90 | 9 | 9 | 0.2000 | 0.5333 |" in page


def test_a_request_counts_once_however_often_it_was_repeated() -> None:
    rows = {"id": ["a", "a", "b"], "ok": True, "prompt_tokens": [10.0, 12.0, 20.0],
            "cached_tokens": [0.0, 8.0, 5.0], "output_tokens": 3.0}  # fmt: skip
    requests = tuple(
        Request(n, 0.0, "t", "p", (), body={}, served=Served(11, 1)) for n in ("a", "b")
    )
    schedule = Schedule("s", 1, "open", 1, 1, True, 1.0, {}, requests)
    log = logged_measure.of_arm(schedule, pd.DataFrame(rows))
    assert log is not None
    assert log["prompt_tokens"] == {
        "requests": 2, "logged": 22, "replayed": 31, "ratio": pytest.approx(31 / 22),
    }  # fmt: skip


def test_prompts_of_another_length_are_named(tmp_path: Path) -> None:
    made = report.evaluate(logged(make(tmp_path / "run"), Served(10)))
    [found] = [f for f in made.findings if f.check == "prompts as long as in the log"]
    assert found.level == "warning"
    assert "jit: 90 prompt tokens where the log's server counted 60 (1.50 times)" in found.detail
    assert made.summary["arms"]["jit"]["log"]["hit_ratio"] is None


def test_without_counts_in_the_log_there_is_nothing_to_compare(tmp_path: Path) -> None:
    made = report.evaluate(logged(make(tmp_path / "run"), None))
    assert made.summary["arms"]["aot"]["log"] is None
