"""What a router in front of several engines made of the traffic.

arms.ARM.routing.{replicas,imbalance,cold_requests,prefixes}
replicas[].{requests,prompt_tokens,share,hit_ratio,store_share,died}   by each engine's own
        counters; store_share: of its prompt tokens, those that came from a KV store; died: in how
        many phases it was not alive at the end
imbalance       the largest share of prompt tokens × the number of replicas: 1 is even
cold_requests   answered requests that found less than half of their static prefix, of `prefixes`
        prefixes that were sent, in one repeat on average. A router that keeps each prefix on its
        replica has one a prefix in auto and none in aot; eviction adds to them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from aot.analysis.runs.phases import Phase, Replica
from aot.serving.metrics.counters import CacheCounters, sum_up


def of_arm(
    phases: Sequence[Phase], frame: pd.DataFrame, static_blocks: Mapping[str, int]
) -> dict[str, Any] | None:
    """None where there is no router. `frame` has the records of these phases; `static_blocks`:
    tokens in full blocks by prefix, empty where unknown."""
    count = max((len(p.replicas) for p in phases), default=0)
    if not count:
        return None
    rows = [_row([p.replicas[n] for p in phases if n < len(p.replicas)]) for n in range(count)]
    tokens = [row["prompt_tokens"] for row in rows]
    total = sum(tokens) if None not in tokens else None
    for row in rows:
        row["share"] = row["prompt_tokens"] / total if total else None
    return {
        "replicas": rows,
        "imbalance": max(tokens) * count / total if total else None,
        **_cold(frame, static_blocks, len(phases)),
    }


def _row(replicas: Sequence[Replica]) -> dict[str, Any]:
    counters = [r.counters for r in replicas if r.counters is not None]
    known = len(counters) == len(replicas)
    total = sum_up(counters) if known and counters else None
    requests = [r.requests for r in replicas if r.requests is not None]
    return {
        "requests": sum(requests) if len(requests) == len(replicas) else None,
        "prompt_tokens": total.prompt_tokens if total else None,
        "hit_ratio": total.hit_ratio if total else None,
        "store_share": _store_share(total) if total else None,
        "died": sum(r.alive is False for r in replicas),
    }


def _store_share(total: CacheCounters) -> float | None:
    if total.store_tokens is None or not total.prompt_tokens:
        return None
    return total.store_tokens / total.prompt_tokens


def _cold(
    frame: pd.DataFrame, static_blocks: Mapping[str, int], phases: int
) -> dict[str, float | int | None]:
    good = frame[frame["ok"]]
    wanted = good["prefix"].map(dict(static_blocks)).astype("float64")
    known = (wanted > 0) & good["cached_tokens"].notna()
    if not known.any():
        return {"cold_requests": None, "prefixes": None}
    cold = known & (good["cached_tokens"] < wanted / 2)
    return {
        "cold_requests": float(cold.sum()) / phases,
        "prefixes": int(good.loc[known, "prefix"].nunique()),
    }
