"""How far aot is from what it cannot beat: the dynamic suffix alone (workloads/plan/floor.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from aot.analysis.inference.compare import speedup
from aot.analysis.measures import metrics
from aot.analysis.runs.phases import Phase
from aot.workloads.plan.floor import WITH, WITHOUT


def from_floor(phases: Sequence[Phase]) -> dict[str, Any] | None:
    """Median TTFT with the static prefix in the cache over that of the suffix alone, the same
    suffixes paired; None where nothing of it was measured."""
    frames = [_pairs(p.floor, p.repeat) for p in phases if p.floor is not None and len(p.floor)]
    pairs = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if pairs.empty:
        return None
    distance = speedup(pairs)
    return {
        "with_prefix_s": distance.before,
        "suffix_alone_s": distance.after,
        "ratio": distance.ratio,
        "ci95": distance.ci95,
        "pairs": distance.pairs,
    }


def _pairs(records: pd.DataFrame, repeat: int) -> pd.DataFrame:
    frame = metrics.derive(records)
    frame = frame[frame["ok"]]
    if frame.empty:
        return pd.DataFrame()
    kind = frame["id"].str.partition("/")
    seconds = frame.assign(kind=kind[0], number=kind[2]).pivot_table(
        index="number", columns="kind", values="ttft_s"
    )
    if not {WITH, WITHOUT} <= set(seconds.columns):
        return pd.DataFrame()
    renamed = seconds.rename(columns={WITH: "before", WITHOUT: "after"})[["before", "after"]]
    return renamed.dropna().assign(repeat=repeat)
