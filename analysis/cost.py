"""What a run's traffic costs: on the machine it ran on, and by the token at a hosted API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aot.analysis.runs.run import ServerRun
from aot.configs.loading.pricing import ModelPrice, PriceTable


@dataclass(frozen=True, slots=True)
class OwnCost:
    """US dollars of machine time in one arm; None where the rate is unknown."""

    arm: str
    requests_per_s: float | None
    per_million_requests: float | None
    per_million_prompt_tokens: float | None


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


def own(numbers: dict[str, Any], usd_per_hour: float) -> list[OwnCost]:
    """Every arm of one server, at the throughput it had in the run."""
    costs = []
    for arm, its in numbers["arms"].items():
        rates = its["throughput"]
        requests, prompts = (
            usd_per_hour / 3600 / rates[k] * 1e6 if rates[k] else None
            for k in ("requests_per_s", "prompt_tokens_per_s")
        )
        costs.append(OwnCost(arm, rates["requests_per_s"], requests, prompts))
    return costs


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
