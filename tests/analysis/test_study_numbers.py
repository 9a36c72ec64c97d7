"""What a study derives: the next rate, kept or missed, where caching pays, stages of a server."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.made_run import make, phase, record

from aot.analysis import report
from aot.analysis.studies import break_even, limited, slo
from aot.analysis.studies.rate_search import Bracket, Tried, bracket, next_rate
from aot.analysis.studies.slo import Outcome
from aot.analysis.studies.study import Row
from aot.configs.kernel.errors import UsageError
from aot.serving.metrics.counters import parse
from aot.serving.metrics.histograms import Where, between, read


def search(capacity: float, start: float, precision: float = 1.1) -> tuple[Bracket, int]:
    tried: list[Tried] = []
    while (rate := next_rate(tried, start, precision)) is not None:
        tried.append(Tried(rate, rate <= capacity))
    return bracket(tried), len(tried)


@pytest.mark.parametrize("capacity", [0.013, 0.9, 1.0, 7.77, 423.0])
@pytest.mark.parametrize("start", [0.05, 1.0, 300.0])
def test_the_search_ends_around_the_capacity(capacity: float, start: float) -> None:
    found, steps = search(capacity, start)
    assert found.kept_per_s is not None
    assert found.missed_per_s is not None
    assert found.kept_per_s <= capacity < found.missed_per_s
    assert found.missed_per_s / found.kept_per_s <= 1.1
    assert steps < 25


def test_a_rate_above_a_missed_one_does_not_count() -> None:
    tried = [Tried(1, kept=True), Tried(2, kept=False), Tried(4, kept=True)]
    assert bracket(tried) == Bracket(1, 2)


def outcome(kept: bool, near: bool) -> Outcome:
    return Outcome(kept, (1.0,), "" if kept else "why", near)


def test_near_the_edge_the_majority_of_three_decides() -> None:
    yes, no = outcome(kept=True, near=True), outcome(kept=False, near=True)
    assert slo.decided([outcome(kept=False, near=False)]) is not None
    assert slo.decided([]) is slo.decided([yes]) is slo.decided([yes, no]) is None
    assert slo.decided([yes, no, no]) is no
    assert slo.decided([yes, yes]) is yes


def test_limits_are_checked_against_the_quantile_of_the_arm(tmp_path: Path) -> None:
    made = report.evaluate(make(tmp_path / "run"))
    # jit: 1.0, 1.1 ... 1.5 s.
    kept = slo.check(made, "jit", [slo.limit("ttft_p50=1.3")])
    assert (kept.kept, kept.near, kept.values) == (True, True, (pytest.approx(1.25),))
    missed = slo.check(made, "jit", [slo.limit("ttft_p50=9"), slo.limit("ttft_p90=0.5")])
    assert not missed.kept
    assert missed.why == "TTFT p90 ≤ 500 ms not kept: 1.45 s"
    assert not missed.near


@pytest.mark.parametrize(
    "text", ["ttft_p99", "ttft_p98=1", "itl_p50=1", "ttft_p99=0", "ttft_p50=1.2.3"]
)
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected METRIC_QUANTILE=SECONDS"):
        slo.limit(text)


def rows(*points: tuple[int, float, str | None]) -> list[Row]:
    bare: dict[str, Any] = dict.fromkeys(f.name for f in dataclasses.fields(Row))
    return [
        Row(**bare | {"value": v, "server": "s", "arm": "aot", "speedup": r, "verdict": kind})
        for v, r, kind in points
    ]


def test_break_even_is_where_every_longer_prefix_pays() -> None:
    (found,) = break_even.find(
        rows(
            (0, 1.0, "none"),
            (128, 1.2, "effect"),
            (256, 1.01, "none"),
            (512, 2, "effect"),
            (1024, 4, "effect"),
        )
    )
    assert (found.pays_from, found.not_at) == (512, 256)
    assert found.words == (
        "aot begins to pay between 256 and 512 static tokens, around the 500 tokens of the usual "
        "rule of thumb"
    )


def test_break_even_says_what_is_not_known() -> None:
    (open_,) = break_even.find(rows((0, 1.1, "inconclusive"), (256, 2, "effect")))
    assert "is shown to pay from 256 static tokens on (at 0 it is inconclusive" in open_.words
    (never,) = break_even.find(rows((0, 1.0, "none"), (256, 0.8, "effect")))
    assert never.words == "aot is not shown to pay at any of the static lengths measured, up to 256"
    (always,) = break_even.find(rows((64, 1.5, "effect"), (256, 3, "effect")))
    assert always.words == "aot pays at 64 static tokens, the shortest measured"


def test_the_oracle_knows_the_capacity(tmp_path: Path) -> None:
    """Prompts of 15 tokens, 8 of them in full shared blocks: all found while they fit."""
    folder = make(tmp_path / "run")
    (server,) = report.evaluate(folder).run.servers
    assert limited.hit_ratio(server, server.of_arm("aot")) == pytest.approx(8 / 15)
    assert limited.hit_ratio(server, server.of_arm("jit")) == 0
    facts = folder / "phases" / "r1-aot" / "facts.json"
    facts.write_text(json.dumps({"enabled": True, "block_tokens": 4, "capacity_tokens": 4}))
    (server,) = report.evaluate(folder).run.servers
    assert limited.hit_ratio(server, server.of_arm("aot")) == pytest.approx(4 / 15)
    facts.write_text(json.dumps({"enabled": True, "block_tokens": 4, "capacity_tokens": None}))
    (server,) = report.evaluate(folder).run.servers
    assert limited.hit_ratio(server, server.of_arm("aot")) is None


PAGE = """\
x_bucket{{le="0.1",s="a"}} {0}
x_bucket{{le="1.0",s="a"}} {1}
x_bucket{{le="+Inf",s="a"}} {2}
x_sum{{s="a"}} {3}
x_count{{s="a"}} {2}
x_sum{{s="b"}} 100
x_count{{s="b"}} 100
"""


def test_a_histogram_is_read_by_its_labels_and_over_the_replay_only() -> None:
    where = Where("x", (("s", "a"),))
    before, after = parse(PAGE.format(5, 5, 5, 2.0)), parse(PAGE.format(5, 9, 10, 8.0))
    found = between(before, after, {"queue": where, "decode": Where("y")})
    assert list(found) == ["queue"]
    assert (found["queue"].count, found["queue"].mean_s) == (5, pytest.approx(1.2))
    # Rank 2.5 of 5; four of them between 0.1 and 1.
    assert found["queue"].quantile_s(0.5) == pytest.approx(0.1 + 0.9 * 2.5 / 4)
    assert found["queue"].quantile_s(0.99) == 1.0
    nothing = read(after, where)
    assert nothing is not None
    assert (nothing - nothing).quantile_s(0.5) is None
    assert (nothing - nothing).mean_s is None


def test_what_the_server_measured_is_set_beside_what_clients_saw(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    here = folder / "phases" / "r1-jit"
    for name, count, sum_s in (("before", 3, 1.0), ("after", 9, 7.9)):
        page = (here / f"metrics-{name}.txt").read_text()
        page += f"vllm:time_to_first_token_seconds_sum {sum_s}\n"
        page += f"vllm:time_to_first_token_seconds_count {count}\n"
        (here / f"metrics-{name}.txt").write_text(page)
    lines = [
        {"monotonic_s": float(n), "running": n, "kv_usage": n / 10, "preemptions": 2 + n}
        for n in range(3)
    ]
    (here / "server.jsonl").write_text(
        "\n".join(map(json.dumps, lines)) + '\n{"monotonic_s": 3.0, "ru'
    )
    report.write(folder)
    found = json.loads((folder / "summary.json").read_text())["arms"]["jit"]["server"]
    assert found["stages"]["ttft"]["requests"] == 6
    # Clients: 1.25 s on average; the server: 6.9 s over 6.
    assert found["overhead_ttft_s"] == pytest.approx(1.25 - 6.9 / 6)
    assert found["gauges"]["running"] == {"mean": 1.0, "max": 2.0}
    assert found["gauges"]["preemptions"] == 2.0
    text = (folder / "report.html").read_text()
    assert "By the server&#39;s own clock" in text or "By the server's own clock" in text
    assert (folder / "figures" / "clients_and_server.svg").exists()


def test_the_distance_from_the_floor_is_a_ratio_of_pairs(tmp_path: Path) -> None:
    folder = make(tmp_path / "run")
    here = folder / "phases" / "r1-aot" / "floor"
    made = [
        record("aot", n, ttft_s, 8, id=f"{kind}/{n}")
        for n in range(8)
        for kind, ttft_s in (("with", 0.2 + n / 100), ("alone", (0.2 + n / 100) / 2))
    ] + [record("aot", 0, 5.0, 0, id="first/p")]
    other = tmp_path / "other"
    make(other)
    shutil.rmtree(other / "phases" / "r1-aot")
    phase(other, made, hits=0)
    (other / "phases" / "r1-aot").rename(here)
    summary = report.evaluate(folder).summary["arms"]["aot"]["floor"]
    assert summary["pairs"] == 8
    assert summary["ratio"] == pytest.approx(2.0)
    report.write(folder)
    assert "That is 2.00 times the floor" in (folder / "report.md").read_text()
