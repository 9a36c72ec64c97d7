"""Sweeps, capacity searches and tuning: what is asked, what is refused, what is resumed. The server
is a stub that somebody else runs; that points share an engine is tested on one (tests/engine)."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.command import Aot, check
from support.stub import serving

from aot.configs.kernel.errors import UsageError
from aot.scripts.study.sweep import values

SGLANG = {
    "/metrics": 'sglang:page_size 1.0\nsglang:prompt_tokens_total{is_streaming="true"} 5\n',
    "/server_info": '{"disable_radix_cache": false, "page_size": 1, "version": "0.5.23"}',
}


@pytest.fixture
def experiment(tmp_path: Path, workload: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text("name: far\nserver: theirs.yaml\nworkload: small.yaml\narms: [jit]\n")
    return path


def server(tmp_path: Path, url: str) -> None:
    (tmp_path / "theirs.yaml").write_text(f"engine: sglang\nruntime: remote\nurl: {url}\n")


def folder(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "runs").iterdir()
    return found


def study(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder(tmp_path) / "study.json").read_text())
    return found


def test_steps_are_filled_in() -> None:
    assert values("0,256,...,1024") == [0, 256, 512, 768, 1024]
    assert values("0.5,1.0,...,2.0,8") == [0.5, 1.0, 1.5, 2.0, 8]
    assert values("fcfs,lpm") == ["fcfs", "lpm"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("5", "needs two values or more"),
        ("1,1", "a value is there twice"),
        ("1,,2", "a value is missing"),
        ("1,...,5", "needs two numbers before it and one after"),
        ("0,256,...,1000", "is not a whole number of steps of 256 away"),
        ("2,1,...,5", "is not reached from 1 in steps of -1"),
    ],
)
def test_values_that_are_none_are_named(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        values(text)


def test_a_sweep_measures_every_point_and_can_be_resumed(
    aot: Aot, experiment: Path, tmp_path: Path
) -> None:
    with serving(gap_s=0.001, cached_tokens=0, pages=SGLANG) as stub:
        server(tmp_path, stub.base_url)
        done = aot("sweep", experiment, "--over", "rate=20,40")
        check(done, 0)
        assert "rate=20" in done.stdout
        found = folder(tmp_path)
        with (found / "points.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [(r["label"], r["value"], r["arm"]) for r in rows] == [
            ("rate=20", "20", "jit"), ("rate=40", "40", "jit"),
        ]  # fmt: skip
        planned = [
            json.loads(
                (found / "points" / p["folder"] / "schedule.jsonl").read_text().splitlines()[-1]
            )
            for p in study(tmp_path)["points"]
        ]
        assert planned[0]["at_s"] == pytest.approx(2 * planned[1]["at_s"], abs=1e-5)
        assert planned[0]["messages"] == planned[1]["messages"]
        # What is there is not measured again.
        (found / "points" / "rate=40" / "phases" / "r1-jit" / "done.json").unlink()
        sent = len(stub.received)
        again = aot("sweep", "--resume", found)
        check(again, 0, "rate=20, r1-jit: already measured")
        assert sent < len(stub.received) < 2 * sent
        # A point is a run like any other.
        check(aot("report", found / "points" / "rate=20"), 0)
    assert "rate=40" in (found / "report.md").read_text()


def test_a_log_and_the_same_without_its_flaws_are_measured_side_by_side(
    aot: Aot, experiment: Path, tmp_path: Path
) -> None:
    for name, clock in (("log", True), ("mended", False)):
        rows = []
        for n in range(6):
            said = (f"Now: 09:{n:02}\n" if clock else "") + "be kind " * 40
            asked = {"role": "user", "content": f"hello {n}"}
            rows.append({"at_s": n / 50, "messages": [{"role": "system", "content": said}, asked]})
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    experiment.write_text(experiment.read_text().replace("small.yaml", "log.jsonl"))
    with serving(gap_s=0.001, cached_tokens=0, pages=SGLANG) as stub:
        server(tmp_path, stub.base_url)
        done = aot("sweep", experiment, "--over", "workload=log.jsonl,mended.jsonl")
        check(done, 0)
        assert len(stub.received) >= 12
        wrong = aot("sweep", experiment, "--over", "workload.seed=1,2", "--runs", "more")
        check(wrong, 2, "is replayed as it is: its keys cannot be set")
    lines = (folder(tmp_path) / "points.csv").read_text().splitlines()
    points = [row["label"] for row in csv.DictReader(lines)]
    assert points == ["workload=log.jsonl", "workload=mended.jsonl"]


def test_a_point_whose_file_changed_is_not_resumed(
    aot: Aot, experiment: Path, workload: Path, tmp_path: Path
) -> None:
    with serving(gap_s=0.001, cached_tokens=0, pages=SGLANG) as stub:
        server(tmp_path, stub.base_url)
        check(aot("sweep", experiment, "--over", "rate=20,40"), 0)
        workload.write_text(workload.read_text().replace("seed: ", "seed: 9"))
        done = aot("sweep", "--resume", folder(tmp_path))
        check(done, 2, "workload file changed since it was started")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep", "E"), "--over is missing"),
        (("sweep", "E", "--over", "rate"), "expected SETTING=VALUE"),
        (("sweep", "E", "--over", "speed=1,2"), "'speed' is no setting"),
        (("sweep", "E", "--over", "rate=1,-2"), "greater than 0"),
        (("sweep",), "give either an experiment file or --resume"),
        (("sweep", "--resume", "nowhere"), "not a folder of 'aot sweep'"),
        (("capacity", "E"), "--slo is missing"),
        (("capacity", "E", "--slo", "ttft=1"), "expected METRIC_QUANTILE=SECONDS"),
        (("capacity", "E", "--slo", "ttft_p99=-1"), "expected METRIC_QUANTILE=SECONDS"),
        (("capacity", "E", "--slo", "ttft_p99=1", "--precision", "1"), "a factor above 1"),
        (("capacity", "E", "--slo", "ttft_p99=500"), "write ttft_p99=500ms"),
        (("calibrate", "E", "--starts", "2"), "3 or more tell how they differ"),
        (("capacity", "E", "--slo", "ttft_p99=1", "--start", "0"), "a rate above 0"),
        (("tune", "theirs.yaml"), "give a server file and an experiment file"),
        (("tune", "theirs.yaml", "E"), "this server runs already; there is nothing to tune"),
        (("tune", "theirs.yaml", "E", "--objective", "speed"), "is none of ttft_p50"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_nothing_is_left(
    aot: Aot, experiment: Path, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    with serving(gap_s=0.001, cached_tokens=0, pages=SGLANG) as stub:
        server(tmp_path, stub.base_url)
        done = aot(*(experiment if a == "E" else a for a in arguments))
        check(done, 2, words)
        assert not list(tmp_path.rglob("requests-*.jsonl"))
        assert not [b for b in stub.received if b.get("stream")]


def test_a_rate_means_nothing_in_a_closed_loop(
    aot: Aot, experiment: Path, workload: Path, tmp_path: Path
) -> None:
    workload.write_text(workload.read_text().replace("{mode: open}", "{mode: closed, users: 2}"))
    check(aot("sweep", experiment, "--over", "rate=1,2"), 2, "load.mode is closed")
    check(aot("capacity", experiment, "--slo", "ttft_p99=1"), 2, "a capacity needs")


def test_capacity_goes_on_while_every_rate_is_kept(
    aot: Aot, experiment: Path, tmp_path: Path
) -> None:
    """A stub that answers at once at any rate keeps the limit up to where the search stops."""
    with serving(gap_s=0.001, cached_tokens=0, pages=SGLANG) as stub:
        server(tmp_path, stub.base_url)
        done = aot(
            "capacity", experiment, "--slo", "ttft_p50=5", "--start", "20", "--most-replays", "3"
        )
        check(done, 0, "stopped after 3 replays")
    # 80 requests/s where the machine is not too busy to offer them
    said = r"jit: keeps the limits at \d+ requests/s, the highest that was offered"
    assert re.search(said, done.stdout), done.stdout
    labels = ["jit, replay 1 at 20/s", "jit, replay 2 at 40/s", "jit, replay 3 at 80/s"]
    assert [p["label"] for p in study(tmp_path)["points"]] == labels
    seeds = [p["changes"]["workload.seed"] for p in study(tmp_path)["points"]]
    assert len(set(seeds)) == 3


def test_a_folder_of_another_kind_is_named(aot: Aot, experiment: Path, tmp_path: Path) -> None:
    with serving(gap_s=0.001, cached_tokens=0, pages=SGLANG) as stub:
        server(tmp_path, stub.base_url)
        check(aot("sweep", experiment, "--over", "rate=20,40"), 0)
    done = aot("capacity", "--resume", folder(tmp_path))
    check(done, 2, "a sweep", "resume it with: aot sweep")
