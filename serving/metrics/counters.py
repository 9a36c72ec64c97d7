"""Facts from a Prometheus /metrics page: parsed by prometheus_client, summed over label sets."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import reduce
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from aot.configs.caches.rule import CacheRule, dense

Metrics = dict[str, list[Sample]]
"""Samples by sample name, e.g. 'vllm:prefix_cache_hits_total'."""


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """An engine's own statement about its prefix cache; None where it says nothing."""

    enabled: bool | None
    block_tokens: int | None
    capacity_tokens: int | None
    rule: CacheRule | None = None
    """Of its model's cache; None where the model's configuration is not at hand."""

    @property
    def reuse(self) -> CacheRule | None:
        """`rule`, and where that is unknown that of full attention, which most models have."""
        if self.rule is None and self.block_tokens:
            return dense(self.block_tokens)
        return self.rule

    @staticmethod
    def from_json(row: dict[str, Any]) -> CacheFacts:
        """TypeError or KeyError for another shape."""
        rule = row.get("rule")
        return CacheFacts(**{**row, "rule": CacheRule.from_json(rule) if rule else None})


TIERS = ("device", "host", "disk", "store")
"""Where a cache keeps blocks."""


@dataclass(frozen=True, slots=True)
class CacheCounters:
    """Cumulative token and event counts; None where the engine does not export one."""

    queried_tokens: float | None
    """Prompt tokens that were looked up in the prefix cache."""
    hit_tokens: float | None
    """Of those, the tokens found in it."""
    prompt_tokens: float | None
    """Prompt tokens processed, looked up or not."""
    output_tokens: float | None
    preemptions: float | None
    """Requests that lost their place in the cache while running (SGLang: retracted)."""
    second_hit_tokens: float | None = None
    second_prompt_tokens: float | None = None
    """The same as hit_tokens and prompt_tokens by counters that the engine keeps elsewhere."""
    device_tokens: float | None = None
    host_tokens: float | None = None
    disk_tokens: float | None = None
    store_tokens: float | None = None
    """Of hit_tokens, those found in each tier: the device's own memory, the host's, a disk, and
    what a connector had from elsewhere."""

    def __sub__(self, before: CacheCounters) -> CacheCounters:
        """What happened between two snapshots of one process."""
        return self._with(before, -1)

    def __add__(self, other: CacheCounters) -> CacheCounters:
        """Both together."""
        return self._with(other, +1)

    def _with(self, other: CacheCounters, sign: int) -> CacheCounters:
        pairs = zip(astuple(self), astuple(other), strict=True)
        return CacheCounters(*(None if None in (a, b) else a + sign * b for a, b in pairs))

    @property
    def hit_ratio(self) -> float | None:
        """hit tokens / queried tokens; with the cache off nothing is queried, and the prompt
        tokens take the place of the queried ones. None when the engine did not say."""
        if self.hit_tokens is None:
            return None
        for total in (self.queried_tokens, self.prompt_tokens):
            if total:
                return self.hit_tokens / total
        return None


def sum_up(counters: Sequence[CacheCounters]) -> CacheCounters:
    """All of `counters` together; needs at least one."""
    return reduce(operator.add, counters)


def parse(text: str) -> Metrics:
    """A /metrics page by sample name. Raises ValueError when it is not Prometheus text."""
    metrics: Metrics = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            metrics.setdefault(sample.name, []).append(sample)
    return metrics


def total(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The sum of `name` over its label sets that have `labels`; None where there is none."""
    samples = [s for s in metrics.get(name, ()) if labels.items() <= s.labels.items()]
    return sum(s.value for s in samples) if samples else None
