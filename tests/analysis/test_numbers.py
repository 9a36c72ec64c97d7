from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aot.analysis.cache import oracle
from aot.analysis.inference.compare import pair, speedup
from aot.analysis.measures import metrics
from aot.configs.caches.rule import dense


def test_a_ratio_of_sums_is_not_a_mean_of_ratios() -> None:
    part, whole = pd.Series([10.0, 0.0, np.nan]), pd.Series([10.0, 90.0, 50.0])
    assert metrics.ratio(part, whole) == pytest.approx(0.1)
    assert metrics.ratio(pd.Series([np.nan]), pd.Series([5.0])) is None


def test_one_output_token_has_no_tpot() -> None:
    row = {
        "error": None, "sent_s": 0.0, "planned_s": None, "first_token_s": 1.0,
        "last_token_s": 1.0, "output_tokens": 1.0, "cached_tokens": 0.0, "prompt_tokens": 5.0,
        "hidden_tokens": np.nan, "gaps": 0, "reads": 1,
    }  # fmt: skip
    frame = metrics.derive(pd.DataFrame([row]))
    assert np.isnan(frame["tpot_s"].iloc[0])
    assert metrics.spread(frame["tpot_s"]) == {"p50": None, "p90": None, "p99": None, "mean": None}


def test_an_answer_that_broke_off_is_no_answer() -> None:
    row = {
        "error": "the stream ended before [DONE]", "sent_s": 0.0, "planned_s": None,
        "first_token_s": 1.0, "last_token_s": 2.0, "output_tokens": 3.0,
        "hidden_tokens": np.nan, "gaps": 2, "reads": 3,
    }  # fmt: skip
    frame = metrics.derive(pd.DataFrame([row, {**row, "error": None}]))
    assert frame["ok"].tolist() == [False, True]
    assert frame["ttft_s"].isna().tolist() == [True, False]
    assert metrics.good(frame, {"ttft_s": 10.0, "e2e_s": None}).tolist() == [False, True]


def test_requests_pair_within_their_repeat() -> None:
    rows = pd.DataFrame({"id": ["a", "a"], "repeat": [1, 2], "ok": True, "x": [1.0, 2.0]})
    assert pair(rows, rows, "x")[["before", "after"]].values.tolist() == [[1, 1], [2, 2]]
    failed = rows.assign(ok=[True, False])
    assert len(pair(rows, failed, "x")) == 1


def expected(prompts: dict[str, list[int]], warmed: list[list[int]], block: int) -> dict[str, int]:
    order = [oracle.Sent(id_, prompt) for id_, prompt in prompts.items()]
    return oracle.expected_cached_tokens(order, [(w, None) for w in warmed], dense(block))


def test_expectation_counts_whole_blocks_of_the_longest_earlier_prompt() -> None:
    prompts = {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 9], "c": [1, 2, 3, 8, 8], "d": [7] * 5}
    assert expected(prompts, [], 2) == {"a": 0, "b": 4, "c": 2, "d": 0}
    assert expected(prompts, [[1, 2, 0]], 2) == {"a": 2, "b": 4, "c": 2, "d": 0}


def test_a_prompt_seen_before_still_recomputes_its_last_token() -> None:
    prompts = {"a": [1, 2, 3, 4], "b": [1, 2, 3, 4]}
    assert expected(prompts, [], 4) == {"a": 0, "b": 0}
    assert expected(prompts, [], 1) == {"a": 0, "b": 3}


def test_equal_blocks_after_different_ones_are_not_shared() -> None:
    assert expected({"a": [1, 1, 5, 5], "b": [2, 2, 5, 5, 5]}, [], 2) == {"a": 0, "b": 0}


def test_another_salt_finds_nothing_and_an_answer_is_found_by_the_next_turn() -> None:
    one = oracle.Sent("1", [1, 2, 3, 4, 5], salt="x", leaves=[1, 2, 3, 4, 5, 6, 7, 8])
    turn = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    order = [one, oracle.Sent("2", turn, salt="y"), oracle.Sent("3", turn, salt="x")]
    found = oracle.expected_cached_tokens(order, [([1, 2, 3, 4], None)], dense(2))
    assert found == {"1": 0, "2": 0, "3": 8}


def test_the_working_set_counts_shared_blocks_once() -> None:
    assert oracle.distinct_tokens([[1, 2, 3, 4], [1, 2, 9, 9], [1, 2, 3]], 2) == 6


def frames(before: list[float], after: list[float]) -> pd.DataFrame:
    def frame(values: list[float]) -> pd.DataFrame:
        ids = [f"r{n}" for n in range(len(values))]
        return pd.DataFrame({"id": ids, "repeat": 1, "ok": True, "x": values})

    return pair(frame(before), frame(after), "x")


def test_only_requests_that_both_arms_answered_are_paired() -> None:
    pairs = frames([1.0, 2.0, np.nan, 4.0], [0.5, np.nan, 0.5])
    assert pairs[["before", "after"]].values.tolist() == [[1.0, 0.5]]


def test_few_pairs_get_no_interval_and_none_get_no_ratio() -> None:
    few = speedup(frames([4.0, 4.0], [2.0, 2.0]))
    assert (few.ratio, few.ci95, few.pairs) == (2.0, None, 2)
    assert speedup(frames([], [])).ratio is None


def test_the_same_records_give_the_same_interval() -> None:
    values = list(np.random.default_rng(1).lognormal(0, 0.3, 40))
    one, two = (speedup(frames(values, values[::-1])) for _ in range(2))
    assert one == two


def test_a_quantile_of_several_repeats_is_that_quantile_of_each() -> None:
    """0 to 1 s in steps of 5 ms, and the same ten times as fast: p90 of each repeat by hand."""
    times = np.arange(1, 202) * 0.005
    repeats = [
        pd.DataFrame({"before": times * k, "after": times * k / 10, "repeat": n})
        for n, k in enumerate((1.0, 1.21), 1)
    ]
    found = speedup(pd.concat(repeats, ignore_index=True), 0.9)
    # p90 of 201 values is the 181st: 0.905 s; of both repeats the geometric mean, 0.905 × 1.1
    assert found.before == pytest.approx(0.905 * 1.1)
    assert found.after == pytest.approx(0.0905 * 1.1)
    assert found.ratio == pytest.approx(10)
