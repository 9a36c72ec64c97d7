"""A log against its replay: what the server of then said of the same requests.

arms.ARM.log.{prompt_tokens,output_tokens}.{requests,logged,replayed,ratio}
arms.ARM.log.hit_ratio.{requests,logged,replayed}
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from aot.workloads.requests.request import Schedule

NOTABLE = 0.02
"""Of the tokens of the prompts: a replay that differs by more is of other prompts, or another
tokenizer's."""


def of_arm(schedule: Schedule | None, frame: pd.DataFrame) -> dict[str, Any] | None:
    """Sums over the requests of which both sides have the count, each once: what was replayed is
    the mean of its repeats. None where the log has none. `frame`: the records of the arm."""
    served = {r.id: r.served for r in schedule.requests if r.served} if schedule else {}
    good = frame[frame["ok"]]
    good = good[good["id"].isin(served.keys())]
    if not len(good):
        return None
    counts = ["prompt_tokens", "cached_tokens", "output_tokens"]
    good = good.groupby("id", sort=False)[counts].mean().reset_index()
    then = good["id"].map(served)
    columns = {
        f"then_{name}": then.map(lambda s, n=name: getattr(s, n)).astype("float64")
        for name in counts
    }
    both = good.assign(**columns)
    return {
        "prompt_tokens": _sums(both, "prompt_tokens"),
        "output_tokens": _sums(both, "output_tokens"),
        "hit_ratio": _hit_ratios(both),
    }


def differs(numbers: dict[str, Any]) -> float | None:
    """Replayed ÷ logged prompt tokens, where that is not the same traffic any more; else None."""
    sums = numbers["prompt_tokens"]
    return sums["ratio"] if sums and abs(sums["ratio"] - 1) > NOTABLE else None


def _sums(both: pd.DataFrame, name: str) -> dict[str, Any] | None:
    known = both[both[f"then_{name}"].notna() & both[name].notna()]
    logged, replayed = known[f"then_{name}"].sum(), known[name].sum()
    if not logged:
        return None
    return {
        "requests": len(known),
        "logged": int(logged),
        "replayed": round(replayed),
        "ratio": float(replayed / logged),
    }


def _hit_ratios(both: pd.DataFrame) -> dict[str, Any] | None:
    columns = ["then_prompt_tokens", "then_cached_tokens", "prompt_tokens", "cached_tokens"]
    known = both.dropna(subset=columns)
    if not known["then_prompt_tokens"].sum() or not known["prompt_tokens"].sum():
        return None
    return {
        "requests": len(known),
        "logged": float(known["then_cached_tokens"].sum() / known["then_prompt_tokens"].sum()),
        "replayed": float(known["cached_tokens"].sum() / known["prompt_tokens"].sum()),
    }
