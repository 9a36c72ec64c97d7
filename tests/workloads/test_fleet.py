"""Several load processes share one schedule; one of them dies half-way."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from support.planned import sessions
from support.processes import own, words
from support.stub import MODEL, Stub, serving

from aot.workloads.load import replay
from aot.workloads.load.fleet import share
from aot.workloads.load.progress import Progress
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Schedule


def job(schedule: Schedule, folder: Path, stub: Stub, processes: int) -> replay.Replay:
    path = folder / "s.jsonl"
    schedule_file.write(schedule, path)
    return replay.Replay(
        path, stub.base_url, MODEL, 1, folder / "phase", fleet=replay.Fleet(processes)
    )


def records(made: replay.Replay) -> dict[int, list[dict[str, Any]]]:
    return {
        int(path.stem.rpartition("-")[2]): [
            json.loads(line) for line in path.read_text().splitlines()[1:]
        ]
        for path in made.records.glob("requests-*.jsonl")
    }


def test_shares_are_whole_sessions_and_make_the_whole() -> None:
    schedule = sessions(11, 0.1)
    shares = [share(schedule, worker, 3) for worker in range(3)]
    assert sorted(r.id for part in shares for r in part) == sorted(schedule.by_id)
    for part in shares:
        ids = {r.id for r in part}
        assert all(r.after in ids for r in part if r.after)
    assert share(schedule, 0, 1) == list(schedule.requests)


def test_every_request_is_sent_once_and_on_one_clock(tmp_path: Path) -> None:
    with serving(tokens=4, gap_s=0.01) as stub:
        made = job(sessions(30, 0.05), tmp_path, stub, 2)
        seen: list[Progress] = []
        replay.run(made, seen.append)
        found = records(made)
        assert len(stub.received) == 60
        assert seen[-1].finished == 60
    assert set(found) == {0, 1}
    ids = Counter(r["id"] for rows in found.values() for r in rows)
    assert set(ids.values()) == {1}
    assert len(ids) == 60
    for rows in found.values():
        assert {r["error"] for r in rows} == {None}
        numbers = {r["id"][1:] for r in rows}
        assert Counter(r["id"][1:] for r in rows) == dict.fromkeys(numbers, 2)
        for r in rows:
            if r["id"].startswith("a"):
                assert r["sent_s"] >= r["planned_s"]
                assert r["sent_s"] - r["planned_s"] < 1.0
    loads = [json.loads(p.read_text()) for p in made.records.glob("load-*.json")]
    assert len(loads) == 2
    for load in loads:
        assert abs(load["offset_s"]) < 0.05  # one machine, one clock
        assert load["round_trip_s"] < 1.0


def test_a_worker_that_dies_is_reported_with_the_requests_lost(tmp_path: Path) -> None:
    with serving(tokens=4, gap_s=0.01) as stub:
        made = job(sessions(60, 0.1), tmp_path, stub, 2)
        thread = threading.Thread(target=replay.run, args=(made, lambda _: None))
        thread.start()
        while len(stub.received) < 20:
            time.sleep(0.05)
        _kill_one_worker(str(made.schedule))
        thread.join(60)
        assert not thread.is_alive()
    rows = [r for part in records(made).values() for r in part]
    assert Counter(r["id"] for r in rows) == dict.fromkeys(sessions(60, 0.1).by_id, 1)
    lost = [r for r in rows if r["error"]]
    assert {r["error"] for r in lost} <= {f"lost: load worker {n} died" for n in (0, 1)}
    assert len({r["error"] for r in lost}) == 1
    assert 20 < len(lost) < 60
    assert all(r["status"] is None for r in lost)


def _kill_one_worker(schedule: str) -> None:
    """The replay's processes are its master and, forked from it, the workers."""
    family = [p for p in own() if schedule in words(p)]
    workers = [p for p in family if p.ppid() in {q.pid for q in family}]
    assert len(workers) == 2
    workers[0].send_signal(signal.SIGKILL)
