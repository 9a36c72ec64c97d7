"""Facts from a Prometheus /metrics page: parsed by prometheus_client, summed over label sets."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

Metrics = dict[str, list[Sample]]
"""Samples by sample name, e.g. 'vllm:prefix_cache_hits_total'."""


@dataclass(frozen=True, slots=True)
class CacheFacts:
    """An engine's own statement about its prefix cache; None where it says nothing."""

    enabled: bool | None
    block_tokens: int | None
    capacity_tokens: int | None


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

    def __sub__(self, before: CacheCounters) -> CacheCounters:
        """What happened between two snapshots of one process."""

        def delta(now: float | None, then: float | None) -> float | None:
            return None if now is None or then is None else now - then

        return CacheCounters(
            delta(self.queried_tokens, before.queried_tokens),
            delta(self.hit_tokens, before.hit_tokens),
            delta(self.prompt_tokens, before.prompt_tokens),
            delta(self.output_tokens, before.output_tokens),
            delta(self.preemptions, before.preemptions),
        )

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


def parse(text: str) -> Metrics:
    """A /metrics page by sample name. Raises ValueError when it is not Prometheus text."""
    metrics: Metrics = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            metrics.setdefault(sample.name, []).append(sample)
    return metrics


def total(metrics: Metrics, name: str) -> float | None:
    """The sum of `name` over all its label sets; None where the page does not have it."""
    samples = metrics.get(name)
    return sum(s.value for s in samples) if samples else None
