"""Latency histograms of a /metrics page: what the server itself measured (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

from aot.serving.metrics.counters import Metrics, total


@dataclass(frozen=True, slots=True)
class Where:
    """A histogram by its name, and the labels of the series that are meant."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Histogram:
    """Over all series: `buckets` is how many observations were at most each bound, ascending, the
    last bound infinite."""

    sum_s: float
    count: float
    buckets: tuple[tuple[float, float], ...]

    def __sub__(self, before: Histogram) -> Histogram:
        """What was observed between two snapshots of one process."""
        return self._with(before, -1)

    def __add__(self, other: Histogram) -> Histogram:
        """Both together."""
        return self._with(other, +1)

    def _with(self, other: Histogram, sign: int) -> Histogram:
        theirs = dict(other.buckets)
        buckets = tuple((bound, n + sign * theirs.get(bound, 0.0)) for bound, n in self.buckets)
        return Histogram(self.sum_s + sign * other.sum_s, self.count + sign * other.count, buckets)

    @property
    def mean_s(self) -> float | None:
        return self.sum_s / self.count if self.count > 0 else None

    def quantile_s(self, q: float) -> float | None:
        """Linear within the bucket, as Prometheus' histogram_quantile; the lowest bound of the
        last bucket where it is in that one. None without observations, and where the buckets are
        too wide to tell: a quantile above mean / (1 - q) cannot be (Markov's inequality)."""
        if self.count <= 0 or not self.buckets:
            return None
        value = self._interpolated(q)
        return value if value * (1 - q) <= self.sum_s / self.count else None

    def _interpolated(self, q: float) -> float:
        rank, low, below = q * self.buckets[-1][1], 0.0, 0.0
        for bound, n in self.buckets:
            if n >= rank:
                if math.isinf(bound):
                    return low
                share = (rank - below) / (n - below) if n > below else 1.0
                return low + (bound - low) * share
            low, below = bound, n
        return low


def read(metrics: Metrics, where: Where) -> Histogram | None:
    """The histogram; None where the page has none of that name and labels."""
    labels = dict(where.labels)
    sum_s, count = (total(metrics, f"{where.name}_{x}", **labels) for x in ("sum", "count"))
    if sum_s is None or count is None:
        return None
    buckets: dict[float, float] = {}
    for sample in metrics.get(f"{where.name}_bucket", ()):
        if labels.items() <= sample.labels.items():
            bound = float(sample.labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
    return Histogram(sum_s, count, tuple(sorted(buckets.items())))


def between(before: Metrics, after: Metrics, stages: Mapping[str, Where]) -> dict[str, Histogram]:
    """What was observed between two pages, by stage; without those that the pages do not have."""
    histograms = {}
    for stage, where in stages.items():
        late = read(after, where)
        if late is not None:
            # A series appears with its first observation.
            early = read(before, where) or Histogram(0.0, 0.0, ())
            histograms[stage] = late - early
    return histograms


def together(parts: Sequence[Mapping[str, Histogram]]) -> dict[str, Histogram]:
    """The sums over phases or replicas, of the stages that all of them have."""
    names = [n for n in (parts[0] if parts else ()) if all(n in part for part in parts)]
    return {name: reduce(add, [part[name] for part in parts]) for name in names}
