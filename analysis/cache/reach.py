"""What a cache of some capacity finds on a trace, under each policy; and where the rest goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from aot.analysis.cache import policies
from aot.workloads.traces.blocks import BlockTrace, StreamedTrace, regroup


@dataclass(frozen=True, slots=True)
class Reach:
    """Hits of one policy at one capacity (None: infinite), by blocks and by tokens."""

    policy: str
    capacity_blocks: int | None
    block_size: int
    hit_blocks: int
    hit_tokens: int
    total_blocks: int
    total_tokens: int

    @property
    def hit_ratio(self) -> float:
        """By tokens, as sums."""
        return self.hit_tokens / self.total_tokens if self.total_tokens else 0.0

    @property
    def block_hit_ratio(self) -> float:
        return self.hit_blocks / self.total_blocks if self.total_blocks else 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "hit_ratio": self.hit_ratio,
            "block_hit_ratio": self.block_hit_ratio,
        }


def evaluate(
    trace: BlockTrace,
    block_tokens: int,
    names: Sequence[str],
    capacities: Sequence[int | None],
    report: Callable[[str], None] = lambda _: None,
) -> list[Reach]:
    """Every policy at every capacity, in blocks of `block_tokens`.

    Raises UsageError where the trace cannot be seen in blocks of that size.
    """
    coarser = block_tokens % trace.block_tokens == 0
    # An infinite cache needs no finer blocks than the trace has: what is found is the same.
    own = regroup(trace, block_tokens) if coarser else trace
    fine = own if coarser or not any(capacities) else regroup(trace, block_tokens)
    endless = None
    if None in capacities:
        endless = _tally("", None, own, block_tokens, policies.infinite(own))
    uses = policies.next_uses(fine) if "opt" in names and any(capacities) else None
    reaches = []
    for name in names:
        for capacity in capacities:
            report(f"{name} at {capacity or 'infinite'} blocks")
            if endless is not None and capacity is None:
                reaches.append(replace(endless, policy=name))
                continue
            known = {"uses": uses} if name == "opt" else {}
            leading = policies.POLICIES[name](fine, capacity, **known)
            reaches.append(_tally(name, capacity, fine, block_tokens, leading))
    return reaches


def _tally(
    name: str,
    capacity: int | None,
    trace: BlockTrace,
    block_tokens: int,
    leading: policies.Leading,
) -> Reach:
    hit_blocks = hit_tokens = total_blocks = 0
    native, full_only = trace.block_tokens, trace.full_only
    for tokens, blocks in zip(trace.input_tokens.tolist(), leading, strict=True):
        # At least the last token of a prompt is computed by an engine.
        whole = min(blocks, (tokens - 1) // native) if full_only else blocks
        hit = min(whole * native, tokens)
        hit_tokens += hit
        hit_blocks += -(-hit // block_tokens)
        total_blocks += tokens // block_tokens if full_only else -(-tokens // block_tokens)
    if native == block_tokens:
        total_blocks = len(trace.ids)
    total = int(trace.input_tokens.sum())
    return Reach(name, capacity, block_tokens, hit_blocks, hit_tokens, total_blocks, total)


def streamed(
    trace: StreamedTrace,
    names: Sequence[str],
    capacities: Sequence[int],
    report: Callable[[str], None] = lambda _: None,
) -> list[Reach]:
    """The same for a trace that is larger than memory: it is read once for each policy and
    capacity. Not for the optimum, which has to know the future."""
    reaches = []
    for name in names:
        for capacity in capacities:
            report(f"{name} at {capacity} blocks")
            hit_blocks = hit_tokens = total = 0
            for number, blocks in enumerate(policies.POLICIES[name](trace, capacity)):
                tokens = trace.tokens[number]
                hit_blocks += blocks
                hit_tokens += min(blocks * trace.block_tokens, tokens)
                total += tokens
            reaches.append(
                Reach(
                    name,
                    capacity,
                    trace.block_tokens,
                    hit_blocks,
                    hit_tokens,
                    trace.references,
                    total,
                )
            )
    return reaches


@dataclass(frozen=True, slots=True)
class Gaps:
    """What is lost at one capacity, in tokens: to the policy, and to the capacity."""

    capacity_blocks: int
    policy_tokens: int
    """The optimum at this capacity, less LRU."""
    capacity_tokens: int
    """An infinite cache, less the optimum at this capacity."""


def gaps(reaches: Sequence[Reach], policy: str = "leaf-lru") -> list[Gaps]:
    """Both gaps at every capacity where `policy`, the optimum and infinity are known."""
    at = {(r.policy, r.capacity_blocks): r.hit_tokens for r in reaches}
    endless = at.get(("opt", None))
    return [
        Gaps(r.capacity_blocks, at["opt", r.capacity_blocks] - r.hit_tokens,
             endless - at["opt", r.capacity_blocks])
        for r in reaches
        if r.policy == policy and r.capacity_blocks and endless is not None
        and ("opt", r.capacity_blocks) in at
    ]  # fmt: skip
