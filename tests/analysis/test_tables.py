"""A run as data frames and as CSV."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.made_run import make

import aot.analysis as analysis
from aot.analysis import report
from aot.configs.kernel.errors import UsageError


def test_a_notebook_gets_tidy_frames(tmp_path: Path) -> None:
    tables = analysis.load(str(make(tmp_path / "run")))
    assert len(tables.requests) == 18
    aot = tables.requests[tables.requests["arm"] == "aot"]
    assert aot["uncached_tokens"].tolist() == [7.0] * 6
    arms = tables.arms.set_index("arm")
    assert arms.loc["jit", "ttft_s.p50"] == pytest.approx(1.25)
    assert arms.loc["aot", "cache.client_hit_ratio"] == pytest.approx(48 / 90)
    row = tables.comparison.query("before == 'jit' and after == 'aot' and metric == 'ttft_s'")
    assert row.set_index("quantile").loc["p50", "ratio"] == pytest.approx(10)
    assert row["ci95_low"].iloc[0] <= 10 <= row["ci95_high"].iloc[0]
    assert set(tables.findings.columns) == {"level", "check", "detail"}


def test_the_report_writes_the_requests_as_csv(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    report.write(run)
    rows = pd.read_csv(run / "requests.csv")
    assert len(rows) == 18
    assert rows[rows["arm"] == "jit"]["ttft_s"].median() == pytest.approx(1.25)


def test_what_is_no_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run directory"):
        analysis.load(tmp_path)
