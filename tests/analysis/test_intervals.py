"""Do the intervals cover the truth as often as they say, and are effects called only then?

Traffic is drawn: pairs of known ratio, alone and in a queue, with starts of the server that differ.
scripts/bench/verdict_coverage.py runs the whole grid, with more draws than a test has time for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest

from aot.analysis.inference import starts, verdict
from aot.analysis.inference.compare import Speedup, level, speedup
from aot.analysis.inference.quantile_ratio import PairedLogs, inflation
from aot.analysis.inference.starts import Starts, amplification
from aot.scripts.bench.simulated import pairs

DRAWS = 160
Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def alike(rng: np.random.Generator, count: int, cold: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Paired times of ratio 3; the share `cold` of the requests takes 15 times as long, in both."""
    size = rng.lognormal(0, 0.4, count) * np.where(rng.random(count) < cold, 15, 1)
    before, after = (size * rng.lognormal(0, 0.2, count) for _ in range(2))
    return 3 * before, after


def unrelated(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    return 3 * rng.lognormal(0, 0.45, count), rng.lognormal(0, 0.45, count)


def cold_and_warm(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """As jit and auto: all cold, against two modes. The median of `after` is its warm mode's 5/6
    quantile: 0.4 of the requests are cold."""
    after = rng.lognormal(0, 0.1, count) * np.where(rng.random(count) < 0.4, 15, 1)
    warm_s = float(np.exp(0.1 * 0.9674215661017014))
    return 3 * warm_s * rng.lognormal(0, 0.05, count), after


SHAPES: dict[str, Draw] = {
    "alike": alike,
    "two modes in both": partial(alike, cold=0.25),
    "unrelated": unrelated,
    "cold and warm": cold_and_warm,
}


def covered(draw: Draw, count: int, q: float = 0.5) -> float:
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(DRAWS):
        before, after = draw(rng, count)
        found = speedup(pd.DataFrame({"before": before, "after": after, "repeat": 1}), q).ci95
        assert found is not None
        hits += found[0] <= 3.0 <= found[1]
    return hits / DRAWS


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [20, 40, 100])
def test_an_interval_covers_the_truth_as_often_as_it_says(shape: str, count: int) -> None:
    # The count of 160 draws itself varies by 1.7 %.
    assert 0.9 <= covered(SHAPES[shape], count) <= 0.995


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", [6, 8, 12])
def test_few_pairs_make_an_interval_wider_and_not_wrong(shape: str, count: int) -> None:
    assert covered(SHAPES[shape], count) >= 0.92


def test_a_tail_is_covered_as_well() -> None:
    assert 0.9 <= covered(alike, 300, q=0.9) <= 0.995


@pytest.mark.parametrize("repeats", [1, 2, 3, 5])
@pytest.mark.parametrize(("load", "drift"), [(0, 0.05), (0.5, 0.02), (0.8, 0.05), (0.95, 0.05)])
def test_no_effect_is_called_where_there_is_none(load: float, drift: float, repeats: int) -> None:
    rng = np.random.default_rng(12)
    draws = 150
    found = [
        verdict.judge(speedup(pairs(rng, 100, load, drift, repeats, 1.0))) for _ in range(draws)
    ]
    # 5 % is what a 95 % interval promises; of 150 draws that is 7.5, and 14 or more once in 100.
    assert sum(v.kind == "effect" for v in found) <= 13


@pytest.mark.parametrize(
    ("load", "drift", "repeats", "ratio", "least"),
    [(0.0, 0.05, 1, 2.0, 0.95), (0.5, 0.05, 1, 2.0, 0.95), (0.0, 0.02, 4, 1.2, 0.95),
     (0.5, 0.02, 4, 1.2, 0.8)],
)  # fmt: skip
def test_a_real_effect_is_called(
    load: float, drift: float, repeats: int, ratio: float, least: float
) -> None:
    rng = np.random.default_rng(13)
    found = [
        verdict.judge(speedup(pairs(rng, 200, load, drift, repeats, ratio))) for _ in range(100)
    ]
    assert sum(v.kind == "effect" for v in found) >= 100 * least - 3


@pytest.mark.parametrize("load", [0.0, 0.5])
def test_a_few_requests_are_enough_for_twice_as_fast(load: float) -> None:
    rng = np.random.default_rng(20)
    found = [verdict.judge(speedup(pairs(rng, 20, load, 0.02, 1, 2.0))) for _ in range(200)]
    # 99 % of 1,000 draws; fewer than 95 % of 200 once in 10,000.
    assert sum(v.kind == "effect" for v in found) >= 190


def test_no_ratio_is_far_beyond_those_of_the_pairs() -> None:
    rng = np.random.default_rng(21)
    sizes = np.cumsum(rng.normal(size=20))
    ratios = np.log(2) + rng.uniform(-0.05, 0.05, 20)
    low, high = PairedLogs(np.column_stack([sizes + ratios, sizes]), 0.5).interval()
    assert np.log(2) - 0.11 <= low < high <= np.log(2) + 0.11


@pytest.mark.parametrize("load", [0.5, 0.95])
@pytest.mark.parametrize("count", [6, 10, 20])
def test_few_requests_of_a_queue_are_not_told_too_well(count: int, load: float) -> None:
    rng = np.random.default_rng(22)
    found = [speedup(pairs(rng, count, load, 0, 1, 1.0)).ci95 for _ in range(200)]
    held = sum(ends is not None and ends[0] <= 1 <= ends[1] for ends in found)
    # 93 to 98 % of 400 draws.
    assert held >= 0.9 * 200


def test_a_real_null_is_called_where_starts_are_known_to_be_alike() -> None:
    rng = np.random.default_rng(14)
    table = pairs(rng, 5_000, 0, 0, 1, 1.0)
    assert verdict.judge(speedup(table)).kind == "inconclusive"
    assert verdict.judge(speedup(table, starts=Starts(0.005, 20))).kind == "none"


def test_an_effect_within_the_margin_is_none_to_act_on() -> None:
    found = verdict.judge(Speedup(1.012, 1.0, (1.01, 1.014), 300, repeats=4, log_sd=0.001))
    assert found.kind == "none"
    assert "no effect to act on" in found.words


def test_what_starts_may_make_of_it_is_no_effect_and_says_so() -> None:
    """Every request 10 % slower, to the microsecond, in one repeat: so may another start be."""
    rng = np.random.default_rng(15)
    after = rng.lognormal(0, 0.3, 200)
    table = pd.DataFrame({"before": 1.1 * after, "after": after, "repeat": 1})
    found = speedup(table)
    assert found.ci95 is not None
    assert found.ci95[0] > 1
    judged = verdict.judge(found)
    assert (judged.kind, judged.starts_decide) == ("inconclusive", True)
    assert "two starts of the same server may differ as much" in judged.words
    assert verdict.judge(speedup(table, starts=Starts(0.01, 9))).kind == "effect"


def test_two_repeats_that_agree_by_chance_do_not_pass_for_many() -> None:
    table = pd.DataFrame({"before": [1.1] * 20, "after": [1.0] * 20, "repeat": [1] * 10 + [2] * 10})
    assert speedup(table).log_sd == pytest.approx(0)
    assert verdict.judge(speedup(table)).kind == "inconclusive"


def test_the_allowance_is_that_of_two_starts_in_a_queue() -> None:
    assert Starts(0.05).half_width(1.0) == pytest.approx(1.96 * 2**0.5 * 0.05, rel=1e-3)
    assert Starts(0.05).half_width(3.0, 2) == pytest.approx(3 * 1.96 * 0.05, rel=1e-3)
    # Student's t of 4 degrees of freedom.
    assert Starts(0.05, 4).half_width(1.0) == pytest.approx(2.776 * 2**0.5 * 0.05, rel=1e-3)


@pytest.mark.parametrize(("load", "low", "high"), [(0, 1, 1.3), (0.5, 1.5, 3), (0.9, 5, 20)])
def test_the_load_is_seen_in_the_times_themselves(load: float, low: float, high: float) -> None:
    rng = np.random.default_rng(16)
    found = [
        amplification([np.log(pairs(rng, 500, load, 0, 1, 1.0)["after"].to_numpy())])
        for _ in range(20)
    ]
    assert low <= float(np.median(found)) <= high


def test_a_factor_of_few_requests_is_bounded() -> None:
    rising = np.linspace(0, 1, 16)
    assert amplification([rising]) == pytest.approx(3.0)  # 0.75 times the root of 16
    assert amplification([]) == 1.0


def test_starts_are_measured_by_the_medians_of_the_same_requests() -> None:
    rng = np.random.default_rng(17)
    found = []
    for _ in range(60):
        frame = pairs(rng, 200, 0, 0.05, 5, 1.0).reset_index(names="id")
        frame = frame.assign(ok=True, measured=True, ttft_s=frame["after"], sent_s=frame["id"])
        measured = starts.measured(frame)
        assert measured is not None
        assert measured.degrees == 4
        found.append(measured.log_sd)
    assert float(np.mean(np.square(found))) ** 0.5 == pytest.approx(0.05, rel=0.2)
    two = frame[frame["repeat"] < 2]
    assert starts.measured(two) is None


def test_the_repeats_that_would_settle_it_do_settle_it() -> None:
    found = Speedup(1.08, 1.0, (0.90, 1.30), 300, repeats=3, log_sd=0.06)
    judged = verdict.judge(found)
    assert judged.kind == "inconclusive"
    assert judged.repeats_needed is not None
    half = {
        n: verdict.stats.t.ppf(0.975, n - 1) * 0.06 / np.sqrt(n)
        for n in (judged.repeats_needed - 1, judged.repeats_needed)
    }
    assert half[judged.repeats_needed] < np.log(1.08) <= half[judged.repeats_needed - 1]
    assert f"{judged.repeats_needed} repeats would settle it" in judged.words


def test_what_no_number_of_repeats_would_settle_asks_for_none() -> None:
    judged = verdict.judge(Speedup(1.02, 1.0, (0.8, 1.3), 300, repeats=3, log_sd=0.5))
    assert judged.repeats_needed is None
    assert "repeats would settle" not in judged.words


def test_tails_get_an_interval_only_where_there_are_enough_beyond_them() -> None:
    rng = np.random.default_rng(14)
    table = pairs(rng, 199, 0, 0, 1, 1.0)
    assert speedup(table, 0.9).ci95 is not None
    assert speedup(table.head(190), 0.9).ci95 is None
    assert speedup(table, 0.99).ci95 is None


def test_each_repeat_counts_as_much_as_another() -> None:
    table = pd.DataFrame(
        {"before": [2.0] * 6 + [8.0] * 60, "after": 1.0, "repeat": [1] * 6 + [2] * 60}
    )
    found = speedup(table)
    assert found.ratio == pytest.approx(4.0)  # the geometric mean of 2 and 8
    assert found.log_sd == pytest.approx(np.log(4) / 2**0.5)


def test_equal_columns_have_the_interval_that_is_a_point() -> None:
    same = np.log(np.full((30, 2), 0.5))
    low, high = PairedLogs(same, 0.5).interval()
    assert (low, high) == (pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6))


def test_neighbours_that_are_alike_count_for_less() -> None:
    rng = np.random.default_rng(18)
    alone = rng.normal(size=2_000)
    assert inflation(alone) == pytest.approx(1, abs=0.1)
    # Each value four times: a sum of four of them has four times the variance.
    assert inflation(np.repeat(alone[:500], 4)) == pytest.approx(3.2, abs=0.6)


@pytest.mark.parametrize("count", [8, 20, 100])
def test_a_level_covers_the_truth(count: int) -> None:
    rng = np.random.default_rng(19)
    hits = 0
    for _ in range(DRAWS):
        values = rng.lognormal(0, 0.5, count)
        found = level(pd.DataFrame({"ok": True, "repeat": 1, "x": values}), "x").ci95
        assert found is not None
        hits += found[0] <= 1 <= found[1]
    assert hits / DRAWS >= 0.9
