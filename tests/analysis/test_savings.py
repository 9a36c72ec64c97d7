"""Worked out on paper."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from support.made_run import make

from aot.analysis import report, savings
from aot.analysis.savings import Lifetime, Tokens
from aot.configs.kernel.errors import UsageError
from aot.configs.loading.pricing import ModelPrice

ARTICLE = Tokens(requests=10_000, static=2_000, rounding=16, dynamic=40)
ANTHROPIC = ModelPrice(input=2, write=2.5, read=0.2, output=10)


def test_the_articles_example() -> None:
    assert ARTICLE.static_per_day == 20_000_000
    assert ARTICLE.saved_per_day == 20_000_000 - 160_000


def test_a_prefix_that_stays_is_written_once() -> None:
    paid = savings.money(ARTICLE, ANTHROPIC, Lifetime(300))
    assert paid.misses_per_day == pytest.approx(1.0)
    assert paid.jit_per_day == pytest.approx(10_000 * 2_040 / 1e6 * 2)
    write, reads = 0.002 * 2.5, 9_999 * 0.002 * 0.2
    assert paid.aot_per_day == pytest.approx(write + reads + 10_000 * 0.00004 * 2)


def test_rare_requests_find_it_gone() -> None:
    few = Tokens(requests=24, static=2_000, rounding=0, dynamic=0)  # one an hour, kept 5 minutes
    paid = savings.money(few, ANTHROPIC, Lifetime(300))
    assert paid.misses_per_day == pytest.approx(24 * math.exp(-300 / 3600))
    assert paid.aot_per_day > paid.jit_per_day  # writing costs more than it brings


@pytest.mark.parametrize(
    ("write", "read", "requests"),
    [(2.5, 0.2, 2), (4, 0.2, 3), (2, 0.2, 2), (2, 2, None)],
)
def test_break_even(write: float, read: float, requests: int | None) -> None:
    price = ModelPrice(input=2, write=write, read=read, output=10)
    found = savings.break_even(price, 300)
    assert found == requests
    if found is not None:
        assert write + (found - 1) * read < found * 2
        assert found == 1 or write + (found - 2) * read >= (found - 1) * 2


def test_storage_is_paid_by_the_hour() -> None:
    stored = ModelPrice(input=1, write=1, read=0.1, output=1, storage_per_hour=4.5)
    free = ModelPrice(input=1, write=1, read=0.1, output=1)
    life = Lifetime(3600, renewed=False)
    hundred = Tokens(requests=100, static=8_000, rounding=0, dynamic=0)
    # One an hour on average 4.17 times: gone for 100 / (1 + 100/24) requests, stored an hour each.
    misses = 100 / (1 + 100 / 24)
    assert life.misses(100) == pytest.approx(misses)
    more = savings.money(hundred, stored, life).aot_per_day
    assert more - savings.money(hundred, free, life).aot_per_day == pytest.approx(
        0.008 * 4.5 * misses
    )
    assert Lifetime(3600, renewed=False).hours(10**6) == pytest.approx(24, abs=0.01)
    assert Lifetime(3600).hours(100) == pytest.approx(24 * (1 - math.exp(-100 / 24)))


def test_more_requests_never_cost_less() -> None:
    stored = ModelPrice(input=1.25, write=1.25, read=0.125, output=1, storage_per_hour=4.5)
    for life in (Lifetime(3600, renewed=False), Lifetime(3600)):
        costs = [
            savings.money(Tokens(n, 8_000, 0, 40), stored, life).aot_per_day
            for n in range(1, 400, 3)
        ]
        assert costs == sorted(costs)


def test_cached_tokens_come_in_steps() -> None:
    price = ModelPrice(input=1.25, write=1.25, read=0.125, output=10)
    paid = savings.money(Tokens(10_000, 2_000, 0, 0), price, Lifetime(600, step_tokens=128))
    kept, rest = 0.00192, 0.00008
    assert paid.aot_per_day == pytest.approx(
        kept * 1.25 + 9_999 * kept * 0.125 + 10_000 * rest * 1.25
    )


def test_seconds_come_from_a_measured_run(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    report.write(run)
    # Median TTFT 1.25 s in jit, 0.125 s in aot, 8 cached tokens a request.
    assert savings.seconds_per_token(run) == pytest.approx(1.125 / 8)
    with pytest.raises(UsageError, match="no measured run of one server"):
        savings.seconds_per_token(tmp_path)


def test_advice_names_the_numbers() -> None:
    worth, reasons = savings.advice(ARTICLE, 1024, savings.money(ARTICLE, ANTHROPIC, Lifetime(300)))
    assert worth
    assert any("2,000 static tokens, from 1,024 on" in r for r in reasons)
    short, _ = savings.advice(Tokens(10_000, 300, 0, 40), 16, None)
    rare, _ = savings.advice(Tokens(10, 3_000, 0, 40), 16, None)
    cheap, why = savings.advice(Tokens(10_000, 900, 0, 40), 1024, None, hosted=True)
    assert not cheap
    assert "no, cost: the same with and without" in why
    assert not short
    assert not rare
