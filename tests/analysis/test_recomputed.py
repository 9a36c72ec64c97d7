"""Every number of the summary, from records.parquet by code that shares nothing with analysis/."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.made_run import make

from aot.analysis import report


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, dict[str, Any]]:
    folder = make(tmp_path_factory.mktemp("recomputed") / "run")
    report.write(folder)
    records = pd.read_parquet(folder / "records.parquet")
    return records, json.loads((folder / "summary.json").read_text())


@pytest.mark.parametrize("arm", ["jit", "auto", "aot"])
def test_an_independent_reader_finds_the_same(
    written: tuple[pd.DataFrame, dict[str, Any]], arm: str
) -> None:
    records, summary = written
    r = records[(records.arm == arm) & records.error.isna()]
    ttft, e2e = r.first_token_s - r.sent_s, r.last_token_s - r.sent_s
    values = {
        "ttft_s": ttft,
        "e2e_s": e2e,
        "tpot_s": (e2e - ttft) / (r.output_tokens - 1),
        "itl_s": pd.Series(np.concatenate([np.diff(c) for c in r.chunk_s])),
        "ttft_from_planned_s": r.first_token_s - r.planned_s,
    }
    said = summary["arms"][arm]
    for name, series in values.items():
        for key, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
            assert said[name][key] == pytest.approx(series.quantile(q)), (name, key)
        assert said[name]["mean"] == pytest.approx(series.mean())
    duration = r.last_token_s.max() - r.sent_s.min()
    throughput = said["throughput"]
    assert throughput["requests_per_s"] == pytest.approx(len(r) / duration)
    assert throughput["output_tokens_per_s"] == pytest.approx(r.output_tokens.sum() / duration)
    assert throughput["prompt_tokens_per_s"] == pytest.approx(r.prompt_tokens.sum() / duration)
    hits = r.cached_tokens.sum() / r.prompt_tokens.sum()
    assert said["cache"]["client_hit_ratio"] == pytest.approx(hits)
    assert said["cache"]["cached_tokens"] == r.cached_tokens.sum()
    assert said["requests"]["ok"] == len(r)
    missed = said["by_hit"]["miss"]["requests"]
    assert missed == (r.cached_tokens == 0).sum()


def test_ratios_are_those_of_the_same_requests(
    written: tuple[pd.DataFrame, dict[str, Any]],
) -> None:
    records, summary = written
    wide = {
        "ttft_s": (records.first_token_s - records.sent_s),
        "e2e_s": (records.last_token_s - records.sent_s),
    }
    assert summary["comparison"]["ratios"]
    for said in summary["comparison"]["ratios"]:
        if said["metric"] not in wide:
            continue
        table = records.assign(v=wide[said["metric"]]).pivot_table("v", ["id", "repeat"], "arm")
        both = table[[said["before"], said["after"]]].dropna()
        q = int(said["quantile"][1:]) / 100
        one, other = both.quantile(q)
        assert said["ratio"] == pytest.approx(one / other)
        assert said["pairs"] == len(both)
