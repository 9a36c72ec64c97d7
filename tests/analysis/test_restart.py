"""What a restart costs, and what a store saves of it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from aot.analysis.inference import answers
from aot.analysis.measures import prefill
from aot.analysis.pages import headlines


def firsts(ttft_s: float, found: float | None) -> dict[str, Any]:
    return {"requests": 2, "ttft_p50_s": ttft_s, "cached_tokens": found, "prompt_tokens": 4194.0}


def numbers(**arms: dict[str, Any] | None) -> dict[str, Any]:
    known = {arm: {"firsts": seen, "floor": None} for arm, seen in arms.items()}
    made = {"arms": known, "comparison": {"ratios": []}}
    return made | {"answers": answers.of_server(made)}


def test_a_restart_is_told_beside_a_cold_one_and_a_warm_one() -> None:
    made = numbers(auto=firsts(18.5, 0), store=firsts(0.38, 4096), restarted=firsts(3.0, 4096))
    (line,) = headlines.of_server(made, [])
    assert line == (
        "After a restart of engine and store, the first 2 requests of their static prefixes waited "
        "3.00 s at the median, with 4,096 of 4,194 tokens from the store; 18.5 s without a store, "
        "380 ms where all was warm."
    )


def test_what_was_not_measured_or_reported_is_left_out() -> None:
    made = numbers(restarted=firsts(3.0, None))
    (line,) = headlines.of_server(made, [])
    assert line.endswith("waited 3.00 s at the median.")
    assert numbers(auto=firsts(18.5, 0))["answers"]["restart"] is None
    assert numbers(auto=firsts(18.5, 0), restarted=None)["answers"]["restart"] is None


def test_first_requests_are_those_of_each_prefix_and_repeat() -> None:
    frame = pd.DataFrame(
        {
            "ok": [False, True, True, True, True],
            "sent_s": [0.0, 3.0, 1.0, 2.0, 1.5],
            "prefix": ["a", "a", "a", "b", "a"],
            "repeat": [1, 1, 1, 1, 2],
            "ttft_s": [9.0, 9.0, 1.0, 2.0, 4.0],
            "cached_tokens": [0, 0, 10, 20, 30],
            "prompt_tokens": [100] * 5,
        }
    )
    found = prefill.firsts(frame)
    assert found == {
        "requests": 3, "ttft_p50_s": pytest.approx(2.0), "cached_tokens": 60, "prompt_tokens": 300,
    }  # fmt: skip
    assert prefill.firsts(frame.assign(ok=False)) is None
