"""What a run's traffic costs: on the machine it ran on, and by the token at a hosted API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from aot.analysis.runs.run import ServerRun
from aot.configs.loading.pricing import ModelPrice, PriceTable


@dataclass(frozen=True, slots=True)
class OwnCost:
    """US dollars of machine time in one arm; None where the rate is unknown.

    `once` is what a start of the server costs besides, however many requests follow: warming in
    aot, the wait of the cold requests in auto. It is not in the cost of a million requests where
    requests came one at a time, so that it can be told apart (`once_is_apart`).
    """

    arm: str
    requests_per_s: float | None
    per_million_requests: float | None
    per_million_prompt_tokens: float | None
    once: float | None
    once_is_apart: bool
    of_default: float | None
    """A million requests over those of auto, what an engine does unless told; None without auto."""


@dataclass(frozen=True, slots=True)
class HostedCost:
    """US dollars for a million requests like these, prompt and output tokens together. `jit`: every
    prompt token at full price. `aot`: static prefixes written and read, the rest at full price."""

    jit_per_million_requests: float
    aot_per_million_requests: float
    jit_per_million_prompt_tokens: float
    aot_per_million_prompt_tokens: float
    writes: int
    """Requests that find their prefix gone, and pay for writing it."""
    requests: int


def own(numbers: dict[str, Any], usd_per_hour: float, one_at_a_time: bool = False) -> list[OwnCost]:
    """Every arm of one server, at the throughput it had in the run; `one_at_a_time`: a closed loop
    of one user, where a second that one request waits is a second of the machine."""
    costs = [_own(numbers, arm, usd_per_hour / 3600, one_at_a_time) for arm in numbers["arms"]]
    default = next((c.per_million_requests for c in costs if c.arm == "auto"), None)
    return [
        replace(c, of_default=c.per_million_requests / default)
        if default and c.per_million_requests
        else c
        for c in costs
    ]


def _own(numbers: dict[str, Any], arm: str, usd_per_s: float, one_at_a_time: bool) -> OwnCost:
    rates = numbers["arms"][arm]["throughput"]
    waited_s, repeats = _once_s(numbers, arm)
    once_s = None if waited_s is None else waited_s / repeats
    share = 1.0
    # Warming comes before the clock; cold requests are within it.
    if arm == "auto" and one_at_a_time and once_s and rates["duration_s"]:
        share = 1 - once_s * repeats / rates["duration_s"]
    requests, prompts = (
        usd_per_s / rates[k] * 1e6 * share if rates[k] and share > 0 else None
        for k in ("requests_per_s", "prompt_tokens_per_s")
    )
    once = None if once_s is None else once_s * usd_per_s
    apart = arm != "auto" or one_at_a_time or once_s == 0
    return OwnCost(arm, rates["requests_per_s"], requests, prompts, once, apart, None)


def _once_s(numbers: dict[str, Any], arm: str) -> tuple[float | None, int]:
    """Seconds that starts of the server cost besides, and of how many starts."""
    if arm == "jit":
        return 0.0, 1
    if arm == "restarted":
        return None, 1
    if arm in ("aot", "store"):
        warming = numbers["arms"][arm]["warming"]
        return (float(warming["prefill_s"]) if warming else None), 1
    cold = numbers["arms"]["auto"]["cold"]
    if cold is None or cold["extra_s"] is None:
        return (0.0 if cold and not cold["requests"] else None), 1
    return cold["requests"] * cold["extra_s"], cold["repeats"]


def hosted(
    server: ServerRun, frame: pd.DataFrame, table: PriceTable, price: ModelPrice
) -> HostedCost | None:
    """The answered requests of one arm in `frame`, priced by `table`, at the times at which they
    were sent. None where their tokens or static prefixes are not known."""
    good = frame[frame["ok"]].sort_values(["repeat", "sent_s"])
    static = {p: len(ids) for p, ids in server.static_prefixes.items()}
    if good.empty or not static or good[["prompt_tokens", "output_tokens"]].isna().any(axis=None):
        return None
    prompt, output = float(good["prompt_tokens"].sum()), float(good["output_tokens"].sum())
    least = price.minimum_tokens or table.minimum_tokens
    step = price.step_tokens or table.step_tokens
    life_s = price.ttl_s or table.ttl_s
    saved, writes = 0.0, 0
    for (_, prefix), rows in good.groupby(["repeat", "prefix"]):
        kept = static.get(str(prefix), 0) // step * step
        if kept < least:
            continue
        missed = misses(rows["sent_s"].tolist(), life_s, table.renewed_by_use)
        writes += missed
        hits = len(rows) - missed
        saved += kept * (hits * (price.input - price.read) + missed * (price.input - price.write))
    jit = prompt * price.input
    per_request = 1 / len(good)  # prices are for a million tokens, costs for a million requests
    return HostedCost(
        (jit + output * price.output) * per_request,
        (jit - saved + output * price.output) * per_request,
        price.input,
        (jit - saved) / prompt,
        writes,
        len(good),
    )


def misses(times_s: Sequence[float], life_s: float, renewed: bool) -> int:
    """How many of the requests at `times_s`, in order, find a prefix gone that lives for `life_s`
    from its last use (`renewed`), or from when it was written."""
    count, since = 0, float("-inf")
    for time_s in times_s:
        gone = time_s - since > life_s
        count += gone
        if gone or renewed:
            since = time_s
    return count
