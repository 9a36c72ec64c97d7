"""The hit ratio that a cache of the engine's own capacity can reach on what was sent.

The prompts in the order of sending through LRU that frees a request's deepest blocks first, as vLLM
does (analysis/cache/policies.py). Requests in flight at the same time and generated tokens are not
modelled, so a busy engine finds somewhat less.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aot.analysis.cache import policies
from aot.analysis.runs.phases import Phase
from aot.analysis.runs.run import ServerRun
from aot.configs.kernel.chains import block_chain
from aot.configs.schema.experiment import STORED


@dataclass(frozen=True, slots=True)
class _Prompts:
    named: list[list[int]]

    def prompts(self) -> Iterator[list[int]]:
        return iter(self.named)


def hit_ratio(run: ServerRun, phases: list[Phase]) -> float | None:
    """Σ cached tokens / Σ prompt tokens at the capacity that the engine reported; 0 in jit, None
    where capacity, block size or tokens are unknown."""
    cached = prompts = 0
    for phase in phases:
        counts = _of_phase(run, phase)
        if counts is None:
            return None
        cached, prompts = cached + counts[0], prompts + counts[1]
    return cached / prompts if prompts else None


def _of_phase(run: ServerRun, phase: Phase) -> tuple[int, int] | None:
    sent, facts = run.sent(phase), phase.facts
    rule = facts.reuse if facts else None
    if sent is None or facts is None or rule is None or not rule.is_dense:
        return None
    if phase.arm in STORED:  # a store has room of its own
        return None
    total = sum(len(s.prompt) for s in sent)
    if phase.arm == "jit":
        return 0, total
    if not facts.capacity_tokens:
        return None
    block = rule.block_tokens
    before = run.before(phase)
    named = [block_chain(ids, block, salt) for ids, salt in before]
    named += [block_chain(s.prompt, block, s.salt) for s in sent]
    leading = policies.leaf_lru(_Prompts(named), facts.capacity_tokens // block)
    hits = list(leading)[len(before) :]
    cached = sum(
        rule.expected_tokens(n * block, len(s.prompt)) for n, s in zip(hits, sent, strict=True)
    )
    return cached, total
