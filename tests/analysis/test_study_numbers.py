"""What a study derives: the next rate, a capacity, where caching pays, stages of a server."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.made_run import make, phase, record

from aot.analysis import report
from aot.analysis.inference import starts
from aot.analysis.studies import break_even, limited, rate_search, slo
from aot.analysis.studies.rate_search import Fitted, Trial, fit, next_rate
from aot.analysis.studies.study import Row
from aot.configs.kernel.errors import UsageError
from aot.scripts.bench.simulated import queue
from aot.serving.metrics.counters import parse
from aot.serving.metrics.histograms import Where, between, read


def test_limits_are_counted_request_by_request(tmp_path: Path) -> None:
    made = report.evaluate(make(tmp_path / "run"))
    # jit: 1.0, 1.1 ... 1.5 s; the first of six is its warm-up.
    kept = slo.check(made, "jit", [slo.limit("ttft_p50=1.35")], 2.0)
    assert (kept.kept, kept.values) == (True, (pytest.approx(1.3),))
    assert kept.trial == Trial(2.0, (2,), 5)
    missed = slo.check(made, "jit", [slo.limit("ttft_p50=9"), slo.limit("ttft_p90=500ms")], 2.0)
    assert missed.kept is False
    assert missed.trial == Trial(2.0, (0, 5), 5)
    assert missed.why == "100.0% beyond TTFT p90 ≤ 500 ms"


def test_a_request_without_an_answer_keeps_no_limit(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    shutil.rmtree(run / "phases" / "r1-jit")
    records = [record("jit", n, 0.1, 0) for n in range(5)]
    lost = record("jit", 5, 0.1, None, error="HTTP 500", first_token_s=None, last_token_s=None)
    phase(run, [*records, lost], hits=0)
    found = slo.check(report.evaluate(run), "jit", [slo.limit("ttft_p50=1")], 2.0)
    assert found.trial == Trial(2.0, (1,), 5)


def test_a_void_run_decides_nothing(tmp_path: Path) -> None:
    """A rate that the generator did not offer: every request leaves 20 s later than the last."""
    run = make(tmp_path / "run")
    path = run / "phases" / "r1-aot" / "records" / "requests-0.jsonl"
    header, *lines = path.read_text().splitlines()
    late = [json.loads(line) for line in lines]
    for n, row in enumerate(late):
        for key in ("sent_s", "first_token_s", "last_token_s"):
            row[key] += 20.0 * n
        row["chunk_s"] = [c + 20.0 * n for c in row["chunk_s"]]
    path.write_text("\n".join([header, *map(json.dumps, late)]) + "\n")
    found = slo.check(report.evaluate(run), "aot", [slo.limit("ttft_p99=0.5")], 2.0)
    assert (found.kept, found.trial) == (None, None)
    assert "requests sent on time" in found.why


@pytest.mark.parametrize(
    ("text", "remedy"),
    [("ttft_p99=500", "write ttft_p99=500ms, or ttft_p99=500s"), ("e2e_p50=60", "e2e_p50=60s")],
)
def test_a_limit_that_was_meant_in_milliseconds_is_asked_about(text: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=remedy):
        slo.limit(text)
    assert slo.limit("ttft_p99=500ms").most_s == pytest.approx(0.5)
    assert slo.limit("ttft_p99=500s").most_s == 500


def searched(
    rng: np.random.Generator, mean_s: float, count: int, share: float, limit_s: float
) -> Fitted | None:
    """A search on one queue: exponential gaps, lognormal sizes, new ones for every replay."""
    trials: list[Trial] = []
    for _ in range(16):
        rate = next_rate(trials, [share], 0.5 / mean_s, 1.01)
        if rate is None:
            break
        arrivals = np.cumsum(rng.exponential(1 / rate, count))
        times = queue(arrivals, mean_s * rng.lognormal(-0.125, 0.5, count))
        beyond = int((times[count // 5 :] > limit_s).sum())
        trials.append(Trial(rate, (beyond,), count - count // 5))
    return fit(trials, [share])


@pytest.mark.parametrize(
    ("share", "limit_s", "truth"), [(0.01, 5.0, 0.414), (0.5, 1.5, 0.592), (0.1, 3.0, 0.469)]
)
def test_the_interval_of_a_capacity_holds_it(share: float, limit_s: float, truth: float) -> None:
    """`truth`: of a replay of 400,000 requests, by bisection. All of it is in
    scripts/bench/capacity_coverage.py."""
    rng = np.random.default_rng(3)
    found = [searched(rng, 1.0, 300, share, limit_s) for _ in range(40)]
    known = [f.widened(starts.ASSUMED, share) for f in found if f]
    assert len(known) >= 38
    assert sum(f.low_per_s <= truth <= f.high_per_s for f in known) >= 34  # 9 of 10, less 2
    assert 0.85 <= float(np.median([f.rate_per_s for f in known])) / truth <= 1.15


def test_the_ratio_of_two_capacities_has_the_width_of_both() -> None:
    one, other = Fitted(1.0, 0.8, 1.25, 5, 0), Fitted(4.0, 4.0, 4.0, 5, 0)
    assert rate_search.ratio(one, other) == pytest.approx((4.0, 3.2, 5.0))
    assert rate_search.ratio(other, one) == pytest.approx((0.25, 0.2, 0.3125))


def test_a_search_doubles_and_halves_until_it_has_both_sides() -> None:
    kept, missed = Trial(1.0, (0,), 100), Trial(2.0, (90,), 100)
    assert next_rate([], [0.01], 1.0, 1.2) == 1.0
    assert next_rate([kept], [0.01], 1.0, 1.2) == 2.0
    assert next_rate([missed], [0.01], 1.0, 1.2) == 1.0
    assert 1.0 < (next_rate([kept, missed], [0.01], 1.0, 1.2) or 0) < 2.0
    # What could not be offered is not asked for again.
    assert next_rate([kept], [0.01], 1.0, 1.2, ceiling_per_s=2.0) is None


def test_no_capacity_follows_from_one_side_or_from_two_replays() -> None:
    kept, missed = Trial(1.0, (0,), 100), Trial(2.0, (90,), 100)
    assert fit([kept] * 5, [0.01]) is None
    assert fit([missed] * 5, [0.01]) is None
    assert fit([kept, missed], [0.01]) is None
    found = fit([kept, missed, Trial(1.5, (5,), 100)], [0.01])
    assert found is not None
    assert found.low_per_s <= found.rate_per_s <= found.high_per_s


def test_what_kept_no_rate_has_no_capacity_though_one_limit_has() -> None:
    beyond = ((200, 200), (60, 150), (40, 40), (30, 5))
    trials = [Trial(r, b, 240) for r, b in zip((16.0, 8.0, 4.0, 2.0), beyond, strict=True)]
    assert not any(t.kept([0.01, 0.5]) for t in trials)
    assert fit(trials, [0.01, 0.5]) is None


def test_too_few_replays_bound_nothing() -> None:
    trials = [Trial(10.0, (0,), 100), Trial(15.0, (1,), 100), Trial(20.0, (60,), 100)]
    found = fit(trials, [0.1])
    assert found is not None
    assert found.is_open


def test_a_start_moves_a_capacity_by_more_than_its_speed() -> None:
    """M/M/1 at half its speed: λ x = ln(1 / 0.01), so that 5 % of speed are 10 % of capacity."""
    steep = float(np.log(100)) / 0.99
    found = Fitted(1.0, 1.0, 1.0, steep, 0).widened(starts.Starts(0.05 / 1.96), 0.01)
    assert np.log(found.high_per_s) == pytest.approx(0.10, rel=0.02)
    assert np.log(found.low_per_s) == pytest.approx(-0.10, rel=0.02)


def test_replays_that_scatter_about_their_curve_make_a_capacity_wider() -> None:
    """The scatter is measured from the curve: the same shares in order, and out of order."""
    rates = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
    smooth = (2, 6, 14, 30, 54, 78)
    rough = (2, 22, 4, 50, 20, 86)
    found = [fit([Trial(r, (b,), 100) for r, b in zip(rates, beyond, strict=True)], [0.1])
             for beyond in (smooth, rough)]  # fmt: skip
    narrow, wide = (np.log(f.high_per_s / f.low_per_s) for f in found if f)
    assert narrow < 0.3
    assert wide > 2 * narrow


def test_of_several_limits_the_tightest_one_binds() -> None:
    rates = (1.0, 1.5, 2.0, 3.0, 4.0)
    trials = [Trial(r, (0 if r < 3 else 50, 0 if r < 1.5 else 50), 100) for r in rates]
    found = fit(trials, [0.1, 0.1])
    assert found is not None
    assert found.limit == 1
    assert found.rate_per_s < 2
    assert not trials[1].kept([0.1, 0.1])
    assert trials[0].kept([0.1, 0.1])


@pytest.mark.parametrize(
    "text", ["ttft_p99", "ttft_p98=1", "itl_p50=1", "ttft_p99=0", "ttft_p50=1.2.3", "ttft_p99=1m"]
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


def test_a_void_point_of_a_sweep_decides_nothing() -> None:
    points = rows((0, 1.0, "none"), (256, 2.0, "effect"), (512, 3.0, "effect"))
    void = [dataclasses.replace(points[1], void=True), *points[::2]]
    (found,) = break_even.find(void)
    assert (found.pays_from, found.not_at) == (512, 0)
    assert break_even.find([dataclasses.replace(p, void=True) for p in points]) == []


def test_break_even_says_what_is_not_known() -> None:
    (open_,) = break_even.find(rows((0, 1.1, "inconclusive"), (256, 2, "effect")))
    assert "is shown to pay from 256 static tokens on (at 0 it is inconclusive" in open_.words
    (never,) = break_even.find(rows((0, 1.0, "none"), (256, 0.8, "effect")))
    assert never.words == (
        "aot is not shown to pay from any static length on, up to the longest measured, 256"
    )
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
