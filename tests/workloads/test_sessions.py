"""Sessions on the load side: a turn never leaves before the one before is answered, and has the
server's own answer in it. Arrivals of every kind."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support.planned import user
from support.stub import MODEL, serving

from aot.configs.dialects.dialect import joined
from aot.configs.dialects.wording import Wording
from aot.configs.kernel.errors import UsageError
from aot.configs.schema.draws import BurstArrivals, DiurnalArrivals, GammaArrivals, RampArrivals
from aot.workloads.load import replay
from aot.workloads.load.dispatch import Dispatcher
from aot.workloads.plan.arrivals import offsets
from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Prefix, Request, Schedule
from aot.workloads.wire.bodies import Bodies
from aot.workloads.wire.record import Record


def talks(mode: Any = "open", think_s: float = 0.05) -> Schedule:
    """Two sessions of three turns; the first forks a fourth request behind its second turn."""
    prefix = Prefix("p", ({"role": "system", "content": "S"},), (user("a"), user("b")), (), "salty")
    requests = [
        Request("r0", 0.0, "t", "p", user("one"), 2),
        Request("r1", 0.0, "t", "p", user("two"), 3, "r0", think_s, True),
        Request("r2", 0.0, "t", "p", user("three"), 3, "r1", think_s, True),
        Request("r3", 0.0, "t", "p", user("fork"), 3, "r1", 0.0, True),
        Request("r4", 0.02, "t", "p", user("other"), 2),
        Request("r5", 0.02, "t", "p", user("other two"), 2, "r4", 0.0, False),
    ]
    return Schedule("s", 1, mode, 2, 5, True, 20.0, {"p": prefix}, tuple(requests))


def run(schedule: Schedule, folder: Path, url: str) -> dict[str, dict[str, Any]]:
    path = folder / "s.jsonl"
    schedule_file.write(schedule, path)
    job = replay.Replay(path, url, MODEL, schedule.users, folder / "phase")
    replay.run(job, lambda _: None)
    lines = (job.records / "requests-0.jsonl").read_text().splitlines()[1:]
    return {row["id"]: row for row in map(json.loads, lines)}


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_turns_wait_for_answers_and_carry_them(tmp_path: Path, mode: str) -> None:
    with serving(tokens=3, gap_s=0.02) as stub:
        records = run(talks(mode), tmp_path, stub.base_url)
    assert set(records) == {f"r{n}" for n in range(6)}
    for request in talks().requests:
        if request.after is not None:
            before = records[request.after]
            waited = records[request.id]["sent_s"] - before["last_token_s"]
            assert waited >= request.think_s
            if mode == "open":
                assert records[request.id]["planned_s"] >= before["last_token_s"]
    bodies = {b["messages"][-1]["content"]: b for b in stub.received}
    said = "t0 t1 t2 "
    assert [m["content"] for m in bodies["three"]["messages"]] == [
        "S", "one", said, "two", said, "three",
    ]  # fmt: skip
    assert [m["content"] for m in bodies["fork"]["messages"]][-2:] == [said, "fork"]
    assert [m["content"] for m in bodies["other two"]["messages"]] == ["S", "other two"]
    assert {b["cache_salt"] for b in stub.received} == {"salty"}
    assert {k: b["max_tokens"] for k, b in bodies.items() if k in ("one", "two")} == {
        "one": 2, "two": 3,
    }  # fmt: skip
    # Kept only where a later turn needs it.
    assert {r for r, row in records.items() if "answer" in row} == {"r0", "r1"}


def test_turns_behind_a_failed_one_are_records_that_say_so(tmp_path: Path) -> None:
    with serving(tokens=3, gap_s=0.001, faults=("500", "", "", "", "", "")) as stub:
        records = run(talks(think_s=0.0), tmp_path, stub.base_url)
    assert len(records) == 6
    failed = next(r for r, row in records.items() if row["status"] == 500)
    behind = {"r0": ("r1", "r2", "r3"), "r4": ("r5",)}[failed]
    for id_ in behind:
        assert records[id_]["error"] == f"not sent: the turn before ({failed}) failed"
        assert records[id_]["status"] is None
        assert records[id_]["sent_s"] is None
    assert sum(row["error"] is None for row in records.values()) == 6 - 1 - len(behind)


def gaps(arrivals: Any, count: int = 6000) -> list[float]:
    return [b - a for a, b in pairwise(offsets(arrivals, count, random.Random("a")))]


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gamma_gaps_have_their_mean_and_burstiness(cv: float) -> None:
    found = gaps(GammaArrivals(kind="gamma", rate_per_s=5, cv=cv))
    shape = 1 / cv**2
    theory = stats.gamma(shape, scale=1 / (5 * shape))
    # Times are whole microseconds: below that there is nothing to compare.
    for share in (0.5, 0.75, 0.9, 0.99):
        assert np.quantile(found, share) == pytest.approx(theory.ppf(share), rel=0.2, abs=1e-5)
    assert np.std(found) / np.mean(found) == pytest.approx(cv, rel=0.15)


def test_bursts_are_silent_in_between() -> None:
    kind = BurstArrivals(kind="bursts", rate_per_s=20, on_s=2, off_s=3)
    times = offsets(kind, 2000, random.Random("b"))
    assert all(t % 5 < 2 for t in times)
    assert len(times) / (times[-1] / 5 * 2) == pytest.approx(20, rel=0.1)


def test_a_ramp_speeds_up_and_stays() -> None:
    kind = RampArrivals(kind="ramp", from_per_s=2, to_per_s=20, ramp_s=50)
    times = np.array(offsets(kind, 3000, random.Random("r")))
    first, last = np.sum(times < 10), np.sum((times >= 60) & (times < 70))
    assert first == pytest.approx(10 * (2 + 3.8) / 2, rel=0.6)
    assert last == pytest.approx(200, rel=0.2)


def test_a_day_has_a_night() -> None:
    kind = DiurnalArrivals(kind="diurnal", low_per_s=1, high_per_s=9, period_s=100)
    times = np.array(offsets(kind, 5000, random.Random("d"))) % 100
    night, noon = np.sum((times < 5) | (times > 95)), np.sum((times > 45) & (times < 55))
    assert noon > 5 * night


def test_arrivals_never_go_back_and_begin_at_once() -> None:
    for kind in (
        GammaArrivals(kind="gamma", rate_per_s=50, cv=4),
        DiurnalArrivals(kind="diurnal", low_per_s=1, high_per_s=9, period_s=10),
    ):
        times = offsets(kind, 500, random.Random(1))
        assert times[0] == 0.0
        assert all(a <= b for a, b in pairwise(times))
        assert len(offsets(kind, 1, random.Random(1))) == 1


def test_a_session_may_have_thousands_of_turns() -> None:
    """One after the other, without a call for each inside the one before."""
    prefix = Prefix("p", (), (user("a"), user("b")))
    turns = [
        Request(f"r{n}", 0.0, "t", "p", user("q"), after=f"r{n - 1}" if n else None)
        for n in range(3000)
    ]
    planned = Schedule("s", 1, "closed", 1, 4, False, 1.0, {"p": prefix}, tuple(turns))
    kept: list[Record] = []
    wire: Any = SimpleNamespace(clock=lambda: 0.0)
    dispatcher = Dispatcher(
        planned, {None: wire}, Bodies(planned, "m", None), "auto", 1, kept.append
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "_exchange", lambda self, request, record: None)
        dispatcher.run_session(turns[0], None)
    assert [r.id for r in kept] == [r.id for r in turns]
    assert dispatcher.left == 0


@pytest.mark.parametrize("endpoint", ["chat", "completions", "responses", "messages", "generate"])
def test_bodies_are_what_the_endpoint_is_asked(endpoint: str) -> None:
    """Put together from pieces, or built at once: the same, answers in the history included."""
    planned = talks()
    wording = Wording(endpoint=endpoint)  # type: ignore[arg-type]
    bodies = Bodies(planned, "m", None, wording=wording)
    answers = {r.id: f'said "{r.id}" é\n' for r in planned.requests}
    for request in planned.requests:
        chat = planned.chat_of(request, answers)
        listed = wording.dialect.item is not None
        prompt: Any = chat.messages if listed else joined(chat.messages, ())
        whole = wording.body(prompt, bodies.asked(request))
        assert json.loads(bodies.of(request, answers)) == whole


@pytest.mark.parametrize("mode", ["open", "closed"])
def test_a_step_waits_for_all_sub_tasks(tmp_path: Path, mode: Any) -> None:
    """r1 and r2 go side by side behind r0; r3 goes on when both are over, r2 being the longer."""
    prefix = Prefix("p", ({"role": "system", "content": "S"},), (user("a"), user("b")))
    requests = (
        Request("r0", 0.0, "t", "p", user("plan"), 2),
        Request("r1", 0.0, "t", "p", user("short task"), 2, "r0", 0.0),
        Request("r2", 0.0, "t", "p", user("long task"), 2, "r0", 0.3),
        Request("r3", 0.0, "t", "p", user("go on"), 2, "r0", 0.05, joins=("r1", "r2")),
    )
    schedule = Schedule("s", 1, mode, 1, 5, True, 20.0, {"p": prefix}, requests)
    with serving(tokens=2, gap_s=0.02) as stub:
        records = run(schedule, tmp_path, stub.base_url)
    assert [r["error"] for r in records.values()] == [None] * 4
    last_s = max(records[name]["last_token_s"] for name in ("r1", "r2"))
    assert records["r1"]["last_token_s"] < records["r2"]["sent_s"]
    assert records["r3"]["sent_s"] >= last_s + 0.05
    assert schedule_file.read(tmp_path / "s.jsonl").requests == requests


def test_a_step_goes_on_when_a_sub_task_failed(tmp_path: Path) -> None:
    prefix = Prefix("p", ({"role": "system", "content": "S"},), (user("a"), user("b")))
    requests = (
        Request("r0", 0.0, "t", "p", user("plan"), 2),
        Request("r1", 0.0, "t", "p", user("task"), 2, "r0", 0.0),
        Request("r2", 0.0, "t", "p", user("more of it"), 2, "r1", 0.0),
        Request("r3", 0.0, "t", "p", user("go on"), 2, "r0", 0.0, joins=("r2",)),
    )
    schedule = Schedule("s", 1, "open", 1, 5, True, 20.0, {"p": prefix}, requests)
    with serving(tokens=2, gap_s=0.01, faults=("", "500", "", "")) as stub:
        records = run(schedule, tmp_path, stub.base_url)
    assert records["r1"]["error"] is not None
    assert "not sent" in records["r2"]["error"]
    assert records["r3"]["error"] is None


def test_joins_are_requests_above(tmp_path: Path) -> None:
    made = talks()
    path = tmp_path / "s.jsonl"
    schedule_file.write(made, path)
    text = path.read_text().replace('"id":"r2",', '"id":"r2","joins":["r5"],')
    path.write_text(text)
    with pytest.raises(UsageError, match="joins 'r5' is no request above"):
        schedule_file.read(path)


def test_clients_hang_up_and_send_again(tmp_path: Path) -> None:
    """A cancelled request is no failure, its chat goes on with what came, and a retry is waited
    for."""
    turns = list(talks("closed").requests)
    turns[0] = replace(turns[0], cancel_s=0.5, max_tokens=50)
    turns[4] = replace(turns[4], cancel_s=0.3, retried=True, max_tokens=8)
    schedule = replace(talks("closed"), requests=tuple(turns))
    with serving(gap_s=0.1) as stub:
        records = run(schedule, tmp_path, stub.base_url)
    asked = [body["messages"][1]["content"] for body in stub.received]
    assert asked.count("other") == 2  # sent, and sent again
    first, again = records["r0"], records["r4"]
    assert first["error"] == "cancelled by its client after 0.5 s, as planned"
    assert first["cancelled_s"] == pytest.approx(first["sent_s"] + 0.5, abs=0.3)
    assert 0 < len(first["chunk_s"]) < 50
    assert again["error"] is None
    assert len(again["chunk_s"]) == 8
    assert again["sent_s"] >= again["cancelled_s"]
    assert records["r1"]["error"] is None  # the chat goes on
    said = next(b for b in stub.received if b["messages"][-1]["content"] == "two")["messages"][-2]
    assert said == {"role": "assistant", "content": first["answer"]}
