"""What is said of latencies: a quantile of one of them, as in ttft_p99."""

from __future__ import annotations

from dataclasses import dataclass

from aot.analysis.measures.metrics import QUANTILES

METRICS = ("ttft", "tpot", "e2e")


@dataclass(frozen=True, slots=True)
class LatencyQuantile:
    """A quantile (p50, p90, p99) of a column of seconds (ttft_s, tpot_s, e2e_s)."""

    column: str
    quantile: str

    @property
    def words(self) -> str:
        return f"{metric_text(self.column)} {self.quantile}"

    @property
    def share(self) -> float:
        """The share of requests below it."""
        return QUANTILES[self.quantile]


LATENCY_QUANTILES = {f"{m}_{q}": LatencyQuantile(f"{m}_s", q) for m in METRICS for q in QUANTILES}
"""By what they are called on the command line and in files: ttft_p50, ..."""


def metric_text(column: str) -> str:
    """ttft_s → TTFT."""
    return column.removesuffix("_s").upper()
