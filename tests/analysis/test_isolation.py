"""Verdicts of an isolation audit, on answers with a known leak or none."""

from __future__ import annotations

import random

import pytest

from aot.analysis.checks.isolation import judge
from aot.serving.cache.isolation import Seen, Trial


def trials(known_s: float, cached: tuple[int | None, int | None], count: int = 40) -> list[Trial]:
    """Times with a spread of 10 %; nobody's prompt takes one second on average."""
    rng = random.Random(4)
    return [
        Trial(
            Seen(known_s * rng.gauss(1, 0.1), 600, cached[0]),
            Seen(rng.gauss(1, 0.1), 600, cached[1]),
        )
        for _ in range(count)
    ]


def test_a_faster_answer_is_a_leak_whatever_is_reported() -> None:
    found = judge(trials(0.5, (None, None)))
    assert (found.verdict, found.by_time, found.by_count) == ("leak", "leak", None)
    assert found.faster == 40
    assert found.ci95[0] == pytest.approx(0.025 ** (1 / 40))  # Clopper & Pearson, all of n
    assert found.p == pytest.approx(0.5**40)


def test_no_difference_is_isolated() -> None:
    found = judge(trials(1.0, (0, 0)))
    assert (found.verdict, found.more_cached) == ("isolated", 0)
    assert found.ci95[0] < 0.5 < found.ci95[1] <= 0.8


def test_one_exact_count_is_a_leak() -> None:
    told = [*trials(1.0, (0, 0), 39), *trials(1.0, (576, 0), 1)]
    assert judge(told).verdict == "leak"
    assert judge(trials(1.0, (24, 22))).by_count == "isolated"  # the opening of the template


def test_too_few_trials_settle_nothing() -> None:
    assert judge(trials(1.0, (0, 0), 3)).verdict == "not settled"


def test_no_leak_is_called_more_often_than_one_says() -> None:
    rng = random.Random(7)
    called = 0
    for _ in range(500):
        fair = [Trial(Seen(rng.random(), 1, 0), Seen(rng.random(), 1, 0)) for _ in range(40)]
        called += judge(fair).verdict == "leak"
    assert called / 500 <= 0.05
