"""Per-request metrics, each in exactly one place; definitions of `vllm bench serve`.

Input and output are data frames: the columns of workloads.record plus, on the way out, seconds.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from aot.analysis.measures import streaming
from aot.workloads.wire.record import CANCELLED

QUANTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99}


REQUEST_COLUMNS = [
    "server", "arm", "repeat", "id", "tenant", "prefix", "ok", "measured", "planned_s", "sent_s",
    "first_token_s", "last_token_s", "lateness_s", "ttft_s", "planned_ttft_s", "tpot_s", "e2e_s",
    "prompt_tokens", "cached_tokens", "uncached_tokens", "output_tokens", "hidden_tokens",
    "finish_reason", "resent", "cancelled_s", "status", "error",
]  # fmt: skip
"""What a request is for a reader: as in requests.csv and `analysis.load(run).requests`."""


def derive(records: pd.DataFrame) -> pd.DataFrame:
    """`records` with these columns added; NaN where a request did not get that far.

    ok            answered completely, with text
    cancelled     not answered because its client hung up, as planned
    ttft_s        first chunk with text − sent
    e2e_s         last chunk with text − sent
    tpot_s        (e2e − ttft) / (tokens that arrived − 1); needs at least 2 of them, and an answer
                  that came neither in one piece nor in bursts
    lateness_s    sent − planned, open loop only
    planned_ttft_s  first chunk with text − planned, open loop only: what a user waits whose request
                    the load generator sent late
    """
    frame = records.copy(deep=False)
    frame["ok"] = frame["error"].isna() & frame["first_token_s"].notna()
    if "cancelled_s" not in frame:  # records of before clients hung up
        frame["cancelled_s"] = np.nan
    hung_up = frame["error"].astype("string").str.startswith(CANCELLED).eq(other=True)
    frame["cancelled"] = frame["cancelled_s"].notna() & hung_up.fillna(value=False)
    answered = frame["ok"]
    frame["ttft_s"] = (frame["first_token_s"] - frame["sent_s"]).where(answered)
    frame["e2e_s"] = (frame["last_token_s"] - frame["sent_s"]).where(answered)
    tokens = streaming.visible_tokens(frame)
    later_tokens = (tokens - 1).where((tokens > 1) & ~streaming.is_held_back(frame))
    frame["tpot_s"] = (frame["e2e_s"] - frame["ttft_s"]) / later_tokens
    frame["planned_ttft_s"] = (frame["first_token_s"] - frame["planned_s"]).where(answered)
    frame["lateness_s"] = frame["sent_s"] - frame["planned_s"]
    return frame


def cancels(frame: pd.DataFrame) -> dict[str, int] | None:
    """How many requests got no answer because their clients hung up, as planned, and how many were
    sent once more for that; None without either."""
    cancelled, all_ = int(frame["cancelled"].sum()), int(frame["cancelled_s"].notna().sum())
    return {"cancelled": cancelled, "retried": all_ - cancelled} if all_ else None


def of_server(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one server; the frame itself where it has no others."""
    mine = frame["server"] == name
    return frame if mine.all() else frame[mine]


def good(frame: pd.DataFrame, slo: Mapping[str, float | None]) -> pd.Series:
    """Which requests were answered within every limit of `slo` (ttft_s, tpot_s, e2e_s). An answer
    of one token has no TPOT and keeps any limit of it."""
    kept = frame["ok"].copy()
    for metric, limit in slo.items():
        if limit is not None:
            kept &= frame[metric].isna() | (frame[metric] <= limit)
    return kept


def uncached(frame: pd.DataFrame) -> pd.Series:
    """Prompt tokens that had to be computed; NaN where the server does not report them."""
    return frame["prompt_tokens"] - frame["cached_tokens"]


def requests(frame: pd.DataFrame) -> pd.DataFrame:
    """REQUEST_COLUMNS of what `derive` returned."""
    return frame.assign(uncached_tokens=uncached(frame))[REQUEST_COLUMNS]


def inter_token_latencies(frame: pd.DataFrame, gaps_s: np.ndarray, rows: pd.Series) -> np.ndarray:
    """ITL: all gaps between consecutive text chunks of the answered requests among `rows`, seconds.
    `gaps_s`: one for every gap of every request of `frame`, in its order."""
    chosen = (frame["ok"] & rows).to_numpy()
    if chosen.all():
        return gaps_s
    kept: np.ndarray = gaps_s[np.repeat(chosen, frame["gaps"].to_numpy())]
    return kept


def spread(values: pd.Series | np.ndarray) -> dict[str, float | None]:
    """p50, p90, p99 and mean; linear interpolation; None for each when there is no value."""
    given = np.asarray(values)
    clean = given[~np.isnan(given)]  # a copy
    if not clean.size:
        return {**dict.fromkeys(QUANTILES), "mean": None}
    quantiles = np.quantile(clean, list(QUANTILES.values()), overwrite_input=True)
    named = {name: float(value) for name, value in zip(QUANTILES, quantiles, strict=True)}
    return {**named, "mean": float(clean.mean(dtype=np.float64))}


def duration_s(frame: pd.DataFrame) -> float | None:
    """First request sent to last token received, over the answered requests of one phase."""
    good = frame[frame["ok"]]
    if good.empty:
        return None
    return float(good["last_token_s"].max() - frame["sent_s"].min())


def total(values: pd.Series) -> int | None:
    """The sum of what is known; None when nothing is."""
    return int(values.sum()) if values.notna().any() else None


def ratio(part: pd.Series, whole: pd.Series) -> float | None:
    """Σ part / Σ whole over the rows where both are known; never a mean of ratios."""
    known = part.notna() & whole.notna()
    total = float(whole[known].sum())
    return float(part[known].sum()) / total if total else None
