"""What a tuning run recommends: only what is shown twice, and nothing of void points."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aot.analysis.studies import tuning
from aot.analysis.studies.study import Point, StudyRun

OBJECTIVE = tuning.objective("ttft_p50")


def evaluation(factors: list[float], void: bool = False) -> Any:
    rng = np.random.default_rng(2)
    sizes = rng.lognormal(-1, 0.3, 100)
    rows = [
        pd.DataFrame({
            "id": [f"r{n}" for n in range(100)], "arm": "aot", "repeat": r, "ok": True,
            "measured": True, "ttft_s": sizes * f, "sent_s": np.arange(100.0),
        })
        for r, f in enumerate(factors)
    ]  # fmt: skip
    part = SimpleNamespace(server=SimpleNamespace(facts={}))
    arms = {"aot": {"cache": {"client_hit_ratio": 0.5}, "floor": None}}
    return SimpleNamespace(
        frame=pd.concat(rows), parts=[part], void=void, summary={"arms": arms},
        run=SimpleNamespace(servers=[], manifest={"phases": []}),
    )  # fmt: skip


def study(points: dict[str, Any]) -> StudyRun:
    made = [
        Point(label, {"server.args": ["--block-size", "64"]} if label == tuning.BEST_AGAIN else {},
              Path(label), e)
        for label, e in points.items()
    ]  # fmt: skip
    facts = {"options": {"server": "s.yaml", "objective": "ttft_p50", "failed": {}}}
    return StudyRun(Path("study"), facts, made, [])


def headline(points: dict[str, Any]) -> str:
    return str(tuning.page(study(points)).headlines[0])


SAME, FASTER = [1.0, 1.01, 0.99], [0.5, 0.51, 0.49]


def test_what_is_shown_twice_is_recommended() -> None:
    found = headline({
        tuning.BASELINE: evaluation(SAME), "block_size=64": evaluation(FASTER),
        tuning.BEST_AGAIN: evaluation(FASTER), tuning.BASELINE_AGAIN: evaluation(SAME),
    })  # fmt: skip
    assert found.startswith("Set args")
    assert "2.00×" in found


def test_what_is_not_shown_again_is_not() -> None:
    found = headline({
        tuning.BASELINE: evaluation(SAME), "block_size=64": evaluation(FASTER),
        tuning.BEST_AGAIN: evaluation([0.97, 1.02, 1.0]), tuning.BASELINE_AGAIN: evaluation(SAME),
    })  # fmt: skip
    assert found.startswith("Keep the server file as it is")
    slower = headline({
        tuning.BASELINE: evaluation(SAME), tuning.BEST_AGAIN: evaluation([2.0, 2.01, 2.02]),
        tuning.BASELINE_AGAIN: evaluation(SAME),
    })  # fmt: skip
    assert slower.startswith("Keep the server file as it is")


@pytest.mark.parametrize("void", [tuning.BASELINE, tuning.BEST_AGAIN, tuning.BASELINE_AGAIN])
def test_nothing_follows_from_void_points(void: str) -> None:
    points = {
        tuning.BASELINE: evaluation(SAME), tuning.BEST_AGAIN: evaluation(FASTER),
        tuning.BASELINE_AGAIN: evaluation(SAME),
    }  # fmt: skip
    points[void].void = True
    assert headline(points) == f"Nothing can be recommended: void are {void}; see their reports."


def test_a_gain_is_before_over_after_and_one_repeat_shows_only_much() -> None:
    gained = tuning.gain(evaluation([1.0]), evaluation([0.5]), OBJECTIVE)
    assert gained.ratio == pytest.approx(2.0)
    assert tuning.is_better(gained)
    assert not tuning.is_better(tuning.gain(evaluation([1.0]), evaluation([0.93]), OBJECTIVE))
    assert not tuning.is_better(tuning.gain(evaluation([0.5]), evaluation([1.0]), OBJECTIVE))


def test_with_nothing_to_find_nothing_is_found() -> None:
    rng = np.random.default_rng(6)

    def start() -> Any:
        return evaluation([float(np.exp(rng.normal(0, 0.05)))])

    found = [tuning.is_better(tuning.gain(start(), start(), OBJECTIVE)) for _ in range(100)]
    assert sum(found) <= 6
