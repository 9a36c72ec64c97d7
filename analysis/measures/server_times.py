"""What the server measured of its own work, beside what its clients saw.

stages.STAGE.{mean_s,p50_s,p99_s,requests}   queue, prefill, ttft, decode, e2e: the change of the
        engine's histograms over the replay; quantiles are interpolated within their buckets
blocks.{lifetime,idle,reuse_gap}.{p50_s,p99_s,blocks}   how long a block lived, how long nobody had
        used it when it was taken for something else, and how long it lay between two findings; of
        the blocks that the engine watches (vLLM: --kv-cache-metrics)
overhead_ttft_s, overhead_e2e_s   mean by the clients − mean by the server: network, HTTP,
        tokenizing, and what the load generator adds. None where the two did not count the same
        number of requests
gauges.NAME.{mean,max}   running, waiting, kv_usage, scraped once a second
gauges.NAME (preemptions, evicted_tokens)   the change over the replay
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from aot.analysis.runs.phases import Phase
from aot.serving.metrics.histograms import Histogram, together

LEVELS = ("running", "waiting", "kv_usage")
BLOCK = "block_"
COUNTERS = ("preemptions", "evicted_tokens")


def of_arm(phases: Sequence[Phase], frame: pd.DataFrame) -> dict[str, Any] | None:
    """All phases of one arm together; `frame` has its records. None: it told nothing."""
    histograms = together([p.stages for p in phases])
    stages = {n: h for n, h in histograms.items() if not n.startswith(BLOCK)}
    gauges = _gauges([p.gauges for p in phases])
    if not stages and not gauges:
        return None
    good = frame[frame["ok"]]
    return {
        "stages": {
            name: {
                "mean_s": histogram.mean_s,
                "p50_s": histogram.quantile_s(0.5),
                "p99_s": histogram.quantile_s(0.99),
                "requests": int(histogram.count),
            }
            for name, histogram in stages.items()
        },
        "blocks": {
            name.removeprefix(BLOCK): {
                "p50_s": histogram.quantile_s(0.5),
                "p99_s": histogram.quantile_s(0.99),
                "blocks": int(histogram.count),
            }
            for name, histogram in histograms.items()
            if name.startswith(BLOCK)
        },
        "overhead_ttft_s": _overhead(stages.get("ttft"), good["ttft_s"], len(frame)),
        "overhead_e2e_s": _overhead(stages.get("e2e"), good["e2e_s"], len(frame)),
        "gauges": gauges,
    }


def _overhead(server: Histogram | None, clients_s: pd.Series, sent: int) -> float | None:
    if server is None or server.mean_s is None or not len(clients_s):
        return None
    if server.count != len(clients_s) or sent != len(clients_s):
        return None
    return float(clients_s.mean()) - server.mean_s


def _gauges(frames: Sequence[pd.DataFrame]) -> dict[str, Any]:
    gauges: dict[str, Any] = {}
    for name in LEVELS:
        known = [f[name].dropna() for f in frames if name in f]
        values = pd.concat(known) if known else pd.Series(dtype=float)
        if len(values):
            gauges[name] = {"mean": float(values.mean()), "max": float(values.max())}
    for name in COUNTERS:
        known = [f[name].dropna() for f in frames if name in f]
        if known and all(len(k) for k in known):
            gauges[name] = float(sum(k.iloc[-1] - k.iloc[0] for k in known))
    return gauges
