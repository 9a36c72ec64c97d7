"""How long what nobody uses stays in the cache: by the traffic and the capacity, and as observed.

arms.ARM.retention.{predicted_p50_s,evictions,observed_p50_s,observed_blocks}
        predicted: the prompts in order of sending, in a cache of the server's capacity that gives
        up what was unused for longest (analysis/cache/policies.py, leaf_lru): how long a block had
        lain unused when it was given up, at the median, over `evictions` of them. observed: the
        same by the engine (vLLM: --kv-cache-metrics)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from aot.analysis.cache.oracle import Sent
from aot.analysis.runs.phases import Phase
from aot.analysis.runs.run import ServerRun
from aot.configs.kernel.chains import block_chain
from aot.serving.metrics.histograms import together


def of_arm(run: ServerRun, phases: Sequence[Phase]) -> dict[str, Any] | None:
    """None where nothing is known of evictions, or there were none."""
    idle_s = _predicted(run, phases)
    histogram = together([p.stages for p in phases]).get("block_idle")
    observed = histogram if histogram and histogram.count else None
    if not idle_s and observed is None:
        return None
    return {
        "predicted_p50_s": float(np.median(idle_s)) if idle_s else None,
        "evictions": len(idle_s),
        "observed_p50_s": observed.quantile_s(0.5) if observed else None,
        "observed_blocks": int(observed.count) if observed else None,
    }


def _predicted(run: ServerRun, phases: Sequence[Phase]) -> list[float]:
    """Of all phases; empty for a cache with windows, behind a router, and where something is
    unknown."""
    idle_s: list[float] = []
    for phase in phases:
        facts, order = phase.facts, run.sent(phase)
        rule = facts.reuse if facts else None
        if facts is None or rule is None or not rule.is_dense or order is None or phase.replicas:
            return []
        if not facts.capacity_tokens or phase.arm == "jit":
            return []
        idle_s += idle_until_evicted(order, rule.block_tokens, facts.capacity_tokens)
    return idle_s


def idle_until_evicted(
    order: Sequence[Sent], block_tokens: int, capacity_tokens: int
) -> list[float]:
    """Seconds that each block had lain unused when it was given up."""
    used_s: OrderedDict[int, float] = OrderedDict()
    most, idle_s = capacity_tokens // block_tokens, []
    for sent in order:
        names = list(block_chain(sent.leaves or sent.prompt, block_tokens, sent.salt))
        for name in reversed(names[:most]):
            used_s[name] = sent.sent_s
            used_s.move_to_end(name)
        while len(used_s) > most:
            _, last_s = used_s.popitem(last=False)
            idle_s.append(sent.sent_s - last_s)
    return idle_s
