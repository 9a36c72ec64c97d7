"""What a KV store counts itself, which no engine sees: what it was asked for, and where it had it.

Names of LMCache 0.5.6 (lmcache/v1/mp_observability/subscribers/metrics), whose page has a counter
from its first event on: on a page of its own, one that is not there is 0.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from aot.serving.metrics.counters import Metrics, total

FAMILY = "lmcache_mp_"
TOKENS = {
    "asked_tokens": "lookup_requested_tokens",
    "memory_tokens": "lookup_hit_l1_tokens",
    "disk_tokens": "lookup_hit_l2_tokens",
}
CHUNKS = {
    "written_chunks": "l2_store_completed_objects_chunks",
    "evicted_chunks": "l1_evicted_chunks",
}
FAILED: tuple[tuple[str, dict[str, str]], ...] = (
    ("l1_allocation_failure_chunks", {}),
    ("l1_read_failure_chunks", {"during": "l1_retrieve"}),
    ("l2_prefetch_failure_chunks", {"reason": "l1_oom"}),
    ("l2_prefetch_failure_chunks", {"reason": "not_found"}),
)
"""Not among them: chunks that came into its memory in another way meanwhile (l1_contended)."""


@dataclass(frozen=True, slots=True)
class StoreCounters:
    """Cumulative, of one process.

    An engine asks for all full chunks of a prompt, also of those that it has itself, so that what
    the store found may be more than what was used.
    """

    asked_tokens: float
    memory_tokens: float
    """Found in its memory; the rest of what it found it read from its disk first."""
    disk_tokens: float
    written_chunks: float
    """That its disk took."""
    evicted_chunks: float
    """Let go from its memory; those on disk stay there."""
    failed_chunks: float
    """There was no memory for them, or they were gone when they were to be read."""

    def __add__(self, other: StoreCounters) -> StoreCounters:
        """Both together."""
        mine, others = asdict(self), asdict(other)
        return StoreCounters(**{key: mine[key] + others[key] for key in mine})

    def __sub__(self, before: StoreCounters) -> StoreCounters:
        """What happened between two snapshots of one process."""
        mine, others = asdict(self), asdict(before)
        return StoreCounters(**{key: mine[key] - others[key] for key in mine})


def read(metrics: Metrics) -> StoreCounters | None:
    """None on a page that is not of a store."""
    if not any(name.startswith(FAMILY) for name in metrics):
        return None

    def count(name: str, **labels: str) -> float:
        return total(metrics, f"{FAMILY}{name}_total", **labels) or 0.0

    chunks = {key: count(name) for key, name in CHUNKS.items()}
    chunks["failed_chunks"] = sum(count(name, **labels) for name, labels in FAILED)
    return StoreCounters(**{key: count(name) for key, name in TOKENS.items()}, **chunks)
