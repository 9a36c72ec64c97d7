"""The load side against a server whose emission times and token counts are known."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.stub import KEY, MODEL, Stub, serving

from aot.scripts.traffic import plan
from aot.workloads.load import replay
from aot.workloads.load.progress import Progress
from aot.workloads.requests import schedule as schedule_file


def load(
    stub: Stub, workload: Path, folder: Path, key_env: str | None = None
) -> list[dict[str, Any]]:
    schedule = plan.schedule_of(workload)
    path = folder / "schedule.jsonl"
    schedule_file.write(schedule, path)
    job = replay.Replay(
        path, stub.base_url, MODEL, schedule.users, folder / "phase", "auto", 1, key_env
    )
    seen: list[Progress] = []
    replay.run(job, seen.append)
    lines = (job.records / "requests-0.jsonl").read_text().splitlines()
    assert seen[-1].finished == len(lines) - 1
    assert seen[-1].failed == sum('"error":null' not in line for line in lines[1:])
    return [json.loads(line) for line in lines]


def test_each_chunk_is_stamped_when_it_arrives(workload: Path, tmp_path: Path) -> None:
    """A reader that waits for a full buffer would stamp the first chunk after the third, at the
    earliest: order, not a tolerance, is what is checked, so a noisy machine cannot fail it."""
    with serving(tokens=8, gap_s=0.06) as stub:
        header, *records = load(stub, workload, tmp_path)
    assert len(records) == 8
    for record in records:
        text = next(
            b["messages"][-1]["content"] for b in stub.received if _id(b) == _key(record, tmp_path)
        )
        emitted = stub.emitted[text]
        arrived = [header["clock_zero_monotonic_s"] + t for t in record["chunk_s"]]
        assert len(arrived) == len(emitted) == 8
        for n, (sent, got) in enumerate(zip(emitted, arrived, strict=True)):
            assert got >= sent
            if n + 2 < len(emitted):
                assert got < emitted[n + 2]
        assert record["first_token_s"] == record["chunk_s"][0]
        assert record["last_token_s"] == record["chunk_s"][-1]


def _id(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def _key(record: dict[str, Any], folder: Path) -> str:
    schedule = schedule_file.read(folder / "schedule.jsonl")
    return next(r.messages[-1]["content"] for r in schedule.requests if r.id == record["id"])


def test_bodies_are_as_planned_and_token_counts_come_from_the_usage_block(
    workload: Path, tmp_path: Path
) -> None:
    with serving(tokens=6, gap_s=0.001, prompt_tokens=321, cached_tokens=288) as stub:
        _, *records = load(stub, workload, tmp_path)
    for record in records:
        assert record["prompt_tokens"] == 321
        assert record["cached_tokens"] == 288
        assert record["output_tokens"] == 6
        assert record["error"] is None
        assert record["status"] == 200
    schedule = plan.schedule_of(workload)
    planned = sorted(json.dumps(schedule.chat_of(r).messages) for r in schedule.requests)
    assert sorted(json.dumps(b["messages"]) for b in stub.received) == planned
    for body in stub.received:
        assert body["max_tokens"] == 6
        assert body["ignore_eos"] is True
        assert body["stream_options"] == {"include_usage": True}


def test_unreported_cached_tokens_stay_unknown(workload: Path, tmp_path: Path) -> None:
    with serving(gap_s=0.001, cached_tokens=None) as stub:
        _, *records = load(stub, workload, tmp_path)
    assert [r["cached_tokens"] for r in records] == [None] * 8


def test_open_loop_sends_on_time_however_slow_the_answers_are(
    workload: Path, tmp_path: Path
) -> None:
    """All 8 requests are due within 0.2 s, and no answer is complete before 0.5 s: a closed loop
    of one user would send the second after the first answer."""
    with serving(tokens=5, gap_s=0.1) as stub:
        _, *records = load(stub, workload, tmp_path)
    planned = {r.id: r.at_s for r in plan.schedule_of(workload).requests}
    assert {r["id"]: r["planned_s"] for r in records} == planned
    assert max(r["sent_s"] for r in records) < min(r["last_token_s"] for r in records)
    assert all(r["sent_s"] >= r["planned_s"] for r in records)


def test_closed_loop_waits_for_the_answer(workload: Path, tmp_path: Path) -> None:
    workload.write_text(workload.read_text().replace("{mode: open}", "{mode: closed, users: 1}"))
    with serving(tokens=3, gap_s=0.005) as stub:
        _, *records = load(stub, workload, tmp_path)
    assert [r["planned_s"] for r in records] == [None] * 8
    for earlier, later in pairwise(records):
        assert later["sent_s"] > earlier["last_token_s"]
    assert [r["id"] for r in records] == [f"r{n:06d}" for n in range(8)]


CHUNKS = {"break": 2, "error-event": 2, "garbage": 2, "null-event": 2}
"""What had arrived by then is kept."""
FAULTS = {
    "401": (401, "HTTP 401: stub says 401"),
    "429": (429, "HTTP 429: stub says 429"),
    "500": (500, "HTTP 500: stub says 500"),
    "break": (200, "the connection ended before the answer did"),
    "error-event": (200, "the server sent an error"),
    "garbage": (200, "not JSON"),
    "null-event": (200, "an event is no object"),
    "no-text": (200, "carried no text"),
}


def test_each_kind_of_failure_is_a_record_that_says_so(workload: Path, tmp_path: Path) -> None:
    with serving(gap_s=0.001, faults=tuple(FAULTS)) as stub:
        _, *records = load(stub, workload, tmp_path)
    assert len(records) == len(FAULTS)
    seen = {stub.faulted[_key(r, tmp_path)]: r for r in records}
    for fault, (status, words) in FAULTS.items():
        assert seen[fault]["status"] == status
        assert words in seen[fault]["error"]
        assert (seen[fault]["first_token_s"] is None) == (len(seen[fault]["chunk_s"]) == 0)
        assert len(seen[fault]["chunk_s"]) == CHUNKS.get(fault, 0)


def test_a_failure_does_not_stop_the_others(workload: Path, tmp_path: Path) -> None:
    with serving(gap_s=0.001, fault="break", faults_after=4) as stub:
        _, *records = load(stub, workload, tmp_path)
    assert sorted(bool(r["error"]) for r in records) == [False] * 4 + [True] * 4


def test_a_server_that_goes_silent_times_out(workload: Path, tmp_path: Path) -> None:
    workload.write_text(
        workload.read_text().replace("request_timeout_s: 20", "request_timeout_s: 0.3")
    )
    with serving(fault="stall", faults_after=6, gap_s=0.001) as stub:
        _, *records = load(stub, workload, tmp_path)
    assert sorted(bool(r["error"]) for r in records) == [False] * 6 + [True] * 2
    assert all("timed out" in r["error"] for r in records if r["error"])


def test_several_locust_users_share_the_schedule(workload: Path, tmp_path: Path) -> None:
    """Locust's web UI asks for a number of users: every request is still sent, and once."""
    schedule_file.write(plan.schedule_of(workload), tmp_path / "schedule.jsonl")
    with serving(gap_s=0.001) as stub:
        job = replay.Replay(
            tmp_path / "schedule.jsonl", stub.base_url, MODEL, 5, tmp_path / "phase"
        )
        replay.run(job, lambda _: None)
        assert len(stub.received) == 8
    rows = (job.records / "requests-0.jsonl").read_text().splitlines()[1:]
    assert sorted(json.loads(r)["id"] for r in rows) == [f"r{n:06d}" for n in range(8)]


def test_a_base_url_may_have_a_path(workload: Path, tmp_path: Path) -> None:
    schedule_file.write(plan.schedule_of(workload), tmp_path / "schedule.jsonl")
    with serving(gap_s=0.001, below="/team-a") as stub:
        job = replay.Replay(
            tmp_path / "schedule.jsonl", stub.base_url + "/team-a", MODEL, 1, tmp_path / "phase"
        )
        replay.run(job, lambda _: None)
    rows = (job.records / "requests-0.jsonl").read_text().splitlines()[1:]
    assert [json.loads(r)["error"] for r in rows] == [None] * 8


def test_locust_used_by_hand_says_what_it_lacks(workload: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "locust", "-f", str(replay.LOCUSTFILE), "--headless"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "--host, --schedule, --model, --records required" in done.stderr
    schedule_file.write(plan.schedule_of(workload), tmp_path / "s.jsonl")
    rest = ["--host", "http://127.0.0.1:9", "--schedule", str(tmp_path / "s.jsonl")]
    rest += ["--model", "m", "--records", str(tmp_path / "records"), "--api-key-env", "NO_KEY"]
    done = subprocess.run([*command, *rest], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "variable NO_KEY is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_key_is_sent_and_written_nowhere(
    workload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_KEY", KEY)
    with serving(gap_s=0.001, require_key=True) as stub:
        _, *records = load(stub, workload, tmp_path, key_env="STUB_KEY")
    assert [r["error"] for r in records] == [None] * 8
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert KEY not in path.read_text(errors="replace"), path
