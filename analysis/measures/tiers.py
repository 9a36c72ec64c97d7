"""What was found in each tier of the cache, and how long requests waited that found it there.

arms.ARM.tiers.{TIER}.{tokens,share}              by the server's counters; share of prompt tokens
arms.ARM.tiers.{TIER}.{requests,ttft_p50_s}       by request
arms.ARM.store.{asked,memory,disk,used}_tokens    by the KV store's own counters
arms.ARM.store.{written,evicted,failed}_chunks

No engine says where one request found its tokens. What the device must hold is known (its rule,
replayed in order of sending), so what a request found beyond that came from further away.
That is given only where, summed, it agrees with the counters within 1 %; after evictions, and with
several devices behind a router, it does not, and is None.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import reduce
from typing import Any

import pandas as pd

from aot.analysis.runs.phases import Phase
from aot.serving.metrics.counters import TIERS, sum_up

AGREEMENT = 0.01
DEVICE = "device"
STORE = "store"


def tokens_of(phases: Sequence[Phase]) -> dict[str, int] | None:
    """Tokens found in each tier of the cache, by the server; None where it does not tell."""
    found = sum_up(known) if (known := [p.counters for p in phases if p.counters]) else None
    if found is None or len(known) < len(phases):
        return None
    tiers = {tier: getattr(found, f"{tier}_tokens") for tier in TIERS}
    return {t: int(n) for t, n in tiers.items() if n is not None} or None


def of_arm(
    tokens: Mapping[str, int] | None, frame: pd.DataFrame, on_device: pd.Series
) -> dict[str, Any] | None:
    """None where nothing was found beyond the device. `frame`: the records of the arm; `on_device`:
    what each request must find there, with the same index, NaN where unknown."""
    if not tokens or not any(n for tier, n in tokens.items() if tier != DEVICE):
        return None
    prompt = frame.loc[frame["ok"], "prompt_tokens"].sum(min_count=1)
    by_tier: dict[str, dict[str, Any]] = {
        tier: {"tokens": n, "share": n / float(prompt) if prompt > 0 else None}
        | {"requests": None, "ttft_p50_s": None}
        for tier, n in tokens.items()
        if n or tier == DEVICE
    }
    further = [tier for tier in by_tier if tier != DEVICE]
    good = frame[frame["ok"]]
    beyond = (good["cached_tokens"] - on_device[good.index]).clip(lower=0)
    counted = by_tier[further[0]]["tokens"]
    if len(further) == 1 and _agrees(beyond, counted):
        device = (good["cached_tokens"] > 0) & (beyond == 0)
        for tier, rows in ((DEVICE, good[device]), (further[0], good[beyond > 0])):
            if tier in by_tier:
                ttft_s = rows["ttft_s"].median()
                by_tier[tier]["requests"] = len(rows)
                by_tier[tier]["ttft_p50_s"] = float(ttft_s) if len(rows) else None
    return by_tier


def store_of(phases: Sequence[Phase]) -> dict[str, int | None] | None:
    """What the KV store was asked for and where it had it (StoreCounters), and what the engine used
    of that; None without a store of ours. An engine asks for what it has itself, too."""
    known = [p.store_counters for p in phases if p.store_counters]
    if not known or len(known) < len(phases):
        return None
    counted = {key: int(n) for key, n in asdict(reduce(operator.add, known)).items()}
    return {**counted, "used_tokens": (tokens_of(phases) or {}).get(STORE)}


def _agrees(beyond: pd.Series, counted: int) -> bool:
    return bool(beyond.notna().all()) and abs(beyond.sum() - counted) <= AGREEMENT * counted
