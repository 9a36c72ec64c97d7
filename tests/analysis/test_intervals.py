"""Do the intervals cover the truth as often as they say, and are effects called only then?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aot.analysis.inference import verdict
from aot.analysis.inference.compare import Speedup, speedup

DRAWS = 1_000


def draw(
    rng: np.random.Generator, kind: str, count: int, repeats: int, ratio: float
) -> pd.DataFrame:
    """Paired TTFTs whose true ratio is `ratio`; a repeat as a whole is off by 10 %."""
    parts = []
    for repeat in range(repeats):
        scale = rng.lognormal(0, 0.4, count)
        before, after = (scale * rng.lognormal(0, 0.2, count) for _ in range(2))
        if kind == "cold starts":  # a quarter of the requests takes 15 times as long, in both
            slow = np.where(rng.random(count) < 0.25, 15, 1)
            before, after = before * slow, after * slow
        if kind == "unrelated":
            before = rng.lognormal(0, 0.45, count)
        if repeats > 1:
            before = before * np.exp(rng.normal(0, 0.1))
        parts.append(pd.DataFrame({"before": ratio * before, "after": after, "repeat": repeat}))
    return pd.concat(parts)


@pytest.mark.parametrize("kind", ["alike", "cold starts", "unrelated"])
@pytest.mark.parametrize(("count", "repeats", "q"), [(100, 1, 0.5), (60, 4, 0.5), (300, 1, 0.9)])
def test_an_interval_covers_the_truth_as_often_as_it_says(
    kind: str, count: int, repeats: int, q: float
) -> None:
    if q != 0.5 and kind == "unrelated":
        kind = "alike"  # unrelated columns have other tails, whose ratio is not `ratio`
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(DRAWS):
        found = speedup(draw(rng, kind, count, repeats, ratio=3.0), q).ci95
        assert found is not None
        covered += found[0] <= 3.0 <= found[1]
    assert 0.93 <= covered / DRAWS <= 0.97


@pytest.mark.parametrize("repeats", [1, 3])
def test_no_effect_is_called_where_there_is_none(repeats: int) -> None:
    rng = np.random.default_rng(12)
    found = [verdict.judge(speedup(draw(rng, "alike", 100, repeats, 1.0))) for _ in range(DRAWS)]
    # 5 % is what a 95 % interval promises; the count of 1,000 draws itself varies by 0.7 %.
    assert sum(v.kind == "effect" for v in found) / DRAWS <= 0.065


def test_a_real_effect_is_called_and_a_real_null_too() -> None:
    rng = np.random.default_rng(13)
    assert verdict.judge(speedup(draw(rng, "alike", 100, 1, 2.0))).kind == "effect"
    assert verdict.judge(speedup(draw(rng, "alike", 5_000, 1, 1.0))).kind == "none"


def test_the_repeats_that_would_settle_it_do_settle_it() -> None:
    found = Speedup(1.05, 1.0, (0.90, 1.22), 300, repeats=3, log_sd=0.06)
    judged = verdict.judge(found)
    assert judged.kind == "inconclusive"
    assert judged.repeats_needed is not None
    half = {
        n: verdict.stats.t.ppf(0.975, n - 1) * 0.06 / np.sqrt(n)
        for n in (judged.repeats_needed - 1, judged.repeats_needed)
    }
    assert half[judged.repeats_needed] < np.log(1.05) <= half[judged.repeats_needed - 1]
    assert f"{judged.repeats_needed} repeats would settle it" in judged.words


def test_tails_get_an_interval_only_where_there_are_enough_beyond_them() -> None:
    rng = np.random.default_rng(14)
    pairs = draw(rng, "alike", 199, 1, 1.0)
    assert speedup(pairs, 0.9).ci95 is not None
    assert speedup(pairs.head(190), 0.9).ci95 is None
    assert speedup(pairs, 0.99).ci95 is None
