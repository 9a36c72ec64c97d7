"""TTFT against the tokens that were not in the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.made_run import make

from aot.analysis import report
from aot.analysis.measures import prefill
from aot.scripts.bench.simulated import queue


def frame(uncached: list[float], ttft: list[float], prompt: int = 5000) -> pd.DataFrame:
    cached = [prompt - u for u in uncached]
    return pd.DataFrame(
        {"ok": True, "prompt_tokens": float(prompt), "cached_tokens": cached, "ttft_s": ttft}
    )


def test_the_line_is_the_one_that_was_drawn_whatever_stragglers_there_are() -> None:
    rng = np.random.default_rng(3)
    tokens = rng.uniform(50, 5000, 3000)
    ttft = 0.04 + 0.0005 * tokens + rng.normal(0, 0.02, 3000)
    ttft[::10] += 8.0
    found = prefill.fit(frame(list(tokens), list(ttft)))
    assert found is not None
    assert found["s_per_token"] == pytest.approx(0.0005, rel=0.1)
    assert found["s_per_token_ci95"][0] <= 0.0005 <= found["s_per_token_ci95"][1]
    assert found["tokens_per_s"] == pytest.approx(2000, rel=0.1)
    assert found["points"] == 300


@pytest.mark.parametrize(
    "rows",
    [frame([100.0] * 9, [1.0] * 9), frame([1000.0, 1900.0] * 20, [1.0, 1.9] * 20)],
    ids=["too few", "all as long"],
)
def test_there_is_no_line_where_there_is_nothing_to_fit(rows: pd.DataFrame) -> None:
    assert prefill.fit(rows) is None


def test_unreported_cached_tokens_are_no_miss() -> None:
    rows = frame([10.0] * 20, [1.0] * 20).assign(cached_tokens=np.nan, prefix="p")
    assert prefill.fit(rows) is None
    assert prefill.split(rows, {"p": 8}) is None


def test_a_cold_request_is_the_first_of_its_prefix_and_no_later_miss() -> None:
    rows = pd.DataFrame({
        "ok": True, "repeat": [1] * 6 + [2] * 2, "prefix": ["a", "a", "b", "a", "b", "s", "a", "a"],
        "sent_s": [0.0, 1, 2, 3, 4, 5, 0, 1], "cached_tokens": [0.0, 8, 0, 0, 8, 0, 0, 8],
        "ttft_s": [1.0, 0.2, 2.0, 1.5, 0.4, 9.0, 3.0, 0.3],
    })  # fmt: skip
    # The fourth found nothing either, but its prefix had been there; s has no block of its own.
    found = prefill.cold(rows, {"a": 8, "b": 8, "s": 0})
    assert found == {"requests": 3, "of": 8, "repeats": 2, "extra_s": pytest.approx(2.0 - 0.3)}
    assert prefill.cold(rows, {"s": 0}) is None
    quick = prefill.cold(rows.assign(ttft_s=0.1), {"a": 8, "b": 8})
    assert quick is not None
    assert quick["extra_s"] is None


def in_a_queue(load: float, seed: int) -> pd.DataFrame:
    """Prefills of 100 or 2,000 tokens, 0.5 ms each and 40 ms besides, first come first served."""
    rng = np.random.default_rng(seed)
    tokens = rng.choice([100.0, 2000.0], 300)
    service = (0.04 + 0.0005 * tokens) * rng.lognormal(0, 0.1, 300)
    sent = np.cumsum(rng.exponential(service.mean() / load, 300))
    ttft = queue(sent, service)
    return frame(list(tokens), list(ttft)).assign(arm="a", repeat=1, sent_s=sent,
                                                  last_token_s=sent + ttft)  # fmt: skip


@pytest.mark.parametrize("load", [0.01, 0.3, 0.7])
def test_what_requests_waited_is_not_what_tokens_cost(load: float) -> None:
    held = 0
    for seed in range(40):
        found = prefill.fit(in_a_queue(load, seed))
        assert found is not None
        low, high = found["s_per_token_ci95"]
        held += low <= 0.0005 <= high
        assert high / low < 1.5
    assert held >= 34  # 95 % of 40, less two standard errors


def test_requests_are_told_apart_by_what_was_found(tmp_path: Path) -> None:
    summary = report.write(make(tmp_path / "run")).summary
    auto, aot = (summary["arms"][a]["by_hit"] for a in ("auto", "aot"))
    # Static part: 10 tokens, 8 of them in full blocks. The first request of auto found nothing.
    assert {k: v["requests"] for k, v in auto.items()} == {"hit": 5, "partial": 0, "miss": 1}
    assert {k: v["requests"] for k, v in aot.items()} == {"hit": 6, "partial": 0, "miss": 0}
    assert auto["miss"]["ttft_s"]["p50"] == pytest.approx(1.0)
    assert auto["hit"]["uncached_tokens_p50"] == 7
    assert "the static prefix" in (tmp_path / "run" / "report.html").read_text()
