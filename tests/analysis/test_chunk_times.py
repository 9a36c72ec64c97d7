"""Times of chunks, read many lists at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aot.analysis.pages.thinning import SLOWEST, evenly, thin
from aot.analysis.runs.chunk_times import flat


def test_lists_one_after_the_other() -> None:
    found = flat([b"[1.5,2]", b"[]", b"[ ]", b"[-3e-2, 4]"])
    assert found is not None
    numbers, counts = found
    assert numbers.tolist() == [1.5, 2.0, -0.03, 4.0]
    assert counts.tolist() == [2, 0, 0, 2]


def test_no_list_at_all() -> None:
    found = flat([])
    assert found is not None
    assert [len(part) for part in found] == [0, 0]


@pytest.mark.parametrize(
    "text", [b"3", b'"[1]"', b"null", b"{}", b"[null]", b'["1"]', b"[[1]]", b"[1,[2,3]]", b"[{}]"]
)
def test_what_is_no_flat_list_of_numbers_is_not_guessed(text: bytes) -> None:
    assert flat([text]) is None
    assert flat([b"[1]", text, b"[2]"]) is None


def test_brackets_that_balance_elsewhere_do_not_help() -> None:
    assert flat([b"3", b"[[1],2]"]) is None


def test_the_slowest_of_each_arm_stay() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"arm": ["jit", "aot"] * 5_000, "ttft_s": rng.random(10_000)})
    shown = thin(frame, 1_000)
    assert len(shown) <= 1_000
    for arm in ("jit", "aot"):
        slowest = frame[frame["arm"] == arm]["ttft_s"].sort_values().tail(SLOWEST)
        assert set(slowest.index) <= set(shown.index)
    assert shown.index.is_monotonic_increasing
    assert thin(frame, 10_000) is frame


def test_places_hold_both_ends() -> None:
    assert evenly(5, 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly(1_000, 3).tolist() == [0, 499, 999]
    assert evenly(0, 3).tolist() == []
