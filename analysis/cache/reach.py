"""What a cache of some capacity finds on a trace, under each policy; and where the rest goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice, product
from typing import Any

from aot.analysis.cache import in_flight, limited, policies, stack_distance
from aot.analysis.cache.in_flight import Timed
from aot.configs.caches.rule import CacheRule
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
    rule: CacheRule | None = None,
    skip: int = 0,
) -> list[Reach]:
    """Every policy at every capacity, in blocks of `block_tokens`. With the `rule` of a cache that
    keeps windows or states, in that cache, which gives up as vLLM does: one policy. The first
    `skip` requests fill the cache and are not counted.

    Raises UsageError where the trace cannot be seen in blocks of that size.
    """
    if rule is not None and not rule.is_dense:
        return _by_rule(regroup(trace, block_tokens), rule, names[0], capacities, report, skip)
    coarser = block_tokens % trace.block_tokens == 0
    # An infinite cache needs no finer blocks than the trace has: what is found is the same.
    own = regroup(trace, block_tokens) if coarser else trace
    fine = own if coarser or not any(capacities) else regroup(trace, block_tokens)
    uses = policies.next_uses(fine) if "opt" in names and any(capacities) else None
    ready = _endless(own, fine, block_tokens, names, capacities, uses, skip)
    if skip == 0 and fine.block_tokens == block_tokens and _is_worth_it(fine, capacities):
        ready |= _at_once(fine, names, capacities, report)
    reaches = []
    for name, capacity in product(names, capacities):
        if (name, capacity) not in ready:
            report(f"{name} at {capacity} blocks")
            known = {"uses": uses} if name == "opt" else {}
            leading = policies.POLICIES[name](fine, capacity, **known)
            ready[name, capacity] = _tally(name, capacity, fine, block_tokens, leading, skip)
        reaches.append(ready[name, capacity])
    return reaches


Ready = dict[tuple[str, int | None], Reach]


def _endless(
    own: BlockTrace,
    fine: BlockTrace,
    block_tokens: int,
    names: Sequence[str],
    capacities: Sequence[int | None],
    uses: Sequence[int] | None,
    skip: int,
) -> Ready:
    """An infinite cache, which every policy fills alike, and the optimum where nothing that is used
    again has to go."""
    if None not in capacities:
        return {}
    found = _tally("", None, own, block_tokens, policies.infinite(own), skip)
    ready: Ready = {(name, None): replace(found, policy=name) for name in names}
    if uses and own is fine:
        enough = policies.most_wanted(uses)
        ready |= {
            ("opt", c): replace(found, policy="opt", capacity_blocks=c)
            for c in capacities
            if c is not None and c >= enough
        }
    return ready


def _at_once(
    trace: BlockTrace,
    names: Sequence[str],
    capacities: Sequence[int | None],
    report: Callable[[str], None],
) -> Ready:
    """The policies whose hits at all capacities come from one pass."""
    ready: Ready = {}
    total = int(trace.input_tokens.sum())
    for name in (n for n in names if stack_distance.knows(trace, n)):
        report(f"{name} at all capacities")
        curve = stack_distance.curve(trace, name)
        for c in (c for c in capacities if c is not None):
            found = curve.at(c)
            ready[name, c] = Reach(name, c, trace.block_tokens, *found, len(trace.ids), total)
    return ready


AT_ONCE = 2
"""Capacities: one pass for all of them takes as long as one replay does,"""
MOST_AT_ONCE = 2_000_000
"""and some 90 bytes for each reference, which a replay does not need."""


def _is_worth_it(trace: BlockTrace, capacities: Sequence[int | None]) -> bool:
    finite = sum(c is not None for c in capacities)
    return finite >= AT_ONCE and len(trace.ids) <= MOST_AT_ONCE


def _by_rule(
    trace: BlockTrace,
    rule: CacheRule,
    name: str,
    capacities: Sequence[int | None],
    report: Callable[[str], None],
    skip: int,
) -> list[Reach]:
    reaches = []
    for capacity in capacities:
        report(f"{name} at {capacity or 'infinite'} blocks, by the rule of the model")
        found = limited.leading(trace, rule, capacity)
        reaches.append(_tally(name, capacity, trace, trace.block_tokens, found, skip))
    return reaches


def in_flight_at(
    requests: Sequence[Timed], rule: CacheRule, capacities: Sequence[int], skip: int = 0
) -> list[Reach]:
    """Requests that overlap, in vLLM's own cache, at every capacity."""
    size, counted, reaches = rule.block_tokens, requests[skip:], []
    total = sum(r.prompt_tokens for r in counted)
    blocks = sum(r.prompt_tokens // size for r in counted)
    for capacity in capacities:
        hit = sum(in_flight.found_blocks(requests, rule, capacity)[skip:])
        reaches.append(Reach(policies.IN_FLIGHT, capacity, size, hit, hit * size, blocks, total))
    return reaches


def _tally(
    name: str,
    capacity: int | None,
    trace: BlockTrace,
    block_tokens: int,
    leading: policies.Leading,
    skip: int,
) -> Reach:
    hit_blocks = hit_tokens = total_blocks = 0
    native, full_only = trace.block_tokens, trace.full_only
    found = zip(trace.input_tokens.tolist(), leading, strict=True)
    for tokens, blocks in islice(found, skip, None):
        # At least the last token of a prompt is computed by an engine.
        whole = min(blocks, (tokens - 1) // native) if full_only else blocks
        hit = min(whole * native, tokens)
        hit_tokens += hit
        hit_blocks += -(-hit // block_tokens)
        total_blocks += tokens // block_tokens if full_only else -(-tokens // block_tokens)
    if native == block_tokens:
        total_blocks = len(trace.ids) - int(trace.starts[min(skip, len(trace))])
    total = int(trace.input_tokens[skip:].sum())
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
                if trace.full_only:
                    blocks = min(blocks, (tokens - 1) // trace.block_tokens)
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
