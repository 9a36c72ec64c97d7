"""When a run is worse than its baseline: shown, not shown, or not to be told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from aot.analysis import gate
from aot.analysis.gate import Limit


def run(factors: list[float], hit_ratio: float | None = 0.5, log_sd: float | None = None) -> Any:
    """A run of one repeat for each factor: 200 requests, one at a time, that much slower."""
    sizes = np.random.default_rng(4).lognormal(-1, 0.3, 200)
    parts = []
    for repeat, factor in enumerate(factors, 1):
        ttft_s = sizes * factor
        sent_s = np.cumsum(ttft_s) - ttft_s
        parts.append(pd.DataFrame({
            "id": [f"r{n}" for n in range(200)], "arm": "aot", "repeat": repeat, "ok": True,
            "measured": True, "ttft_s": ttft_s, "e2e_s": ttft_s, "sent_s": sent_s,
            "last_token_s": sent_s + ttft_s, "output_tokens": 1.0, "prompt_tokens": 1.0,
        }))  # fmt: skip
    facts = {"starts": {"log_sd": log_sd, "degrees": 20} if log_sd else None}
    server = SimpleNamespace(arms=["aot"], facts=facts)
    numbers = {"arms": {"aot": {"cache": {"client_hit_ratio": hit_ratio}}}}
    here = SimpleNamespace(folder=Path("run"), servers=[server], schedule_sha256="same")
    return SimpleNamespace(
        void=False, run=here, frame=pd.concat(parts, ignore_index=True),
        parts=[SimpleNamespace(server=server, numbers=numbers)],
    )  # fmt: skip


def outcome(now: Any, then: Any, metric: str, share: float) -> str:
    [judged] = gate.judge(now, then, [Limit(metric, share)], "aot")
    return judged.outcome


@pytest.mark.parametrize("metric", ["ttft_p50", "requests_per_s"])
def test_one_repeat_cannot_tell_five_percent(metric: str) -> None:
    """Two equal runs, two that differ by what starts do, and one that is much worse."""
    assert outcome(run([1.0]), run([1.0]), metric, 0.05) == "not settled"
    assert outcome(run([1.1]), run([1.0]), metric, 0.05) == "not settled"
    assert outcome(run([1.5]), run([1.0]), metric, 0.05) == "regression"
    assert outcome(run([1.0]), run([1.0]), metric, 0.25) == "pass"
    assert outcome(run([0.7]), run([1.0]), metric, 0.0) == "pass"


@pytest.mark.parametrize("metric", ["ttft_p50", "requests_per_s"])
def test_repeats_or_a_calibration_tell(metric: str) -> None:
    assert outcome(run([1.0, 1.01, 0.99]), run([1.0, 1.0, 1.0]), metric, 0.05) == "pass"
    assert outcome(run([1.1, 1.11, 1.09]), run([1.0, 1.0, 1.0]), metric, 0.05) == "regression"
    assert outcome(run([1.1, 1.2, 0.9]), run([1.0, 1.0, 1.0]), metric, 0.05) == "not settled"
    known = run([1.0], log_sd=0.005)
    assert outcome(run([1.0], log_sd=0.005), known, metric, 0.05) == "pass"
    assert outcome(run([1.1], log_sd=0.005), known, metric, 0.05) == "regression"
    # The one that tells less decides.
    assert outcome(run([1.0]), known, metric, 0.05) == "not settled"


@pytest.mark.parametrize("metric", ["ttft_p50", "requests_per_s"])
def test_two_repeats_that_disagree_settle_nothing(metric: str) -> None:
    """By the allowance for starts alone their mean would do."""
    assert outcome(run([0.8, 1.25]), run([1.0, 1.0]), metric, 0.25) == "not settled"
    assert outcome(run([1.0, 1.0]), run([1.0, 1.0]), metric, 0.25) == "pass"


def test_a_hit_ratio_is_a_count() -> None:
    assert outcome(run([1.0], 0.50), run([1.0], 0.50), "hit_ratio", 0.0) == "pass"
    assert outcome(run([1.0], 0.45), run([1.0], 0.50), "hit_ratio", 0.05) == "regression"
    assert outcome(run([1.0], 0.45), run([1.0], 0.50), "hit_ratio", 0.15) == "pass"
    assert outcome(run([1.0], 0.60), run([1.0], 0.50), "hit_ratio", 0.0) == "pass"
    assert outcome(run([1.0], None), run([1.0], 0.50), "hit_ratio", 0.05) == "not settled"


def test_how_much_worse_is_said_with_its_interval() -> None:
    [judged] = gate.judge(run([1.5]), run([1.0]), [Limit("ttft_p50", 0.05)], "aot")
    assert judged.worse == pytest.approx(0.5)
    assert judged.worse_ci95 is not None
    # Requests all agree: what is left is the allowance for starts, 1.15 either way.
    assert judged.worse_ci95 == (pytest.approx(1.5 / 1.15 - 1, abs=0.05),
                                 pytest.approx(1.5 * 1.15 - 1, abs=0.05))  # fmt: skip
    [rate] = gate.judge(run([2.0]), run([1.0]), [Limit("requests_per_s", 0.05)], "aot")
    assert rate.worse == pytest.approx(0.5)
    assert rate.worse_ci95 is not None
    assert rate.worse_ci95[0] < 0.5 < rate.worse_ci95[1]


def equal(rng: np.random.Generator, drift: float) -> bool:
    factors = [float(np.exp(rng.normal(0, drift))) for _ in range(2)]
    return outcome(run(factors[:1]), run(factors[1:]), "ttft_p50", 0.05) == "regression"


def test_two_equal_runs_are_rarely_a_regression() -> None:
    rng = np.random.default_rng(9)
    assert sum(equal(rng, 0.05) for _ in range(100)) <= 7
