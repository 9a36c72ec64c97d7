"""TTFT against the tokens that were not in the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.made_run import make

from aot.analysis import report
from aot.analysis.measures import prefill


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


def test_requests_are_told_apart_by_what_was_found(tmp_path: Path) -> None:
    summary = report.write(make(tmp_path / "run")).summary
    auto, aot = (summary["arms"][a]["by_hit"] for a in ("auto", "aot"))
    # Static part: 10 tokens, 8 of them in full blocks. The first request of auto found nothing.
    assert {k: v["requests"] for k, v in auto.items()} == {"hit": 5, "partial": 0, "miss": 1}
    assert {k: v["requests"] for k, v in aot.items()} == {"hit": 6, "partial": 0, "miss": 0}
    assert auto["miss"]["ttft_s"]["p50"] == pytest.approx(1.0)
    assert auto["hit"]["uncached_tokens_p50"] == 7
    assert "the static prefix" in (tmp_path / "run" / "report.html").read_text()
