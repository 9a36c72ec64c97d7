"""`comparison` and `between_servers` of summary.json: arms, and servers, over the same requests."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import pandas as pd

from aot.analysis.inference.compare import matched, pair, speedup, values
from aot.analysis.inference.starts import ASSUMED, Starts, of_both
from aot.analysis.inference.verdict import judge
from aot.analysis.measures import metrics
from aot.configs.schema.experiment import ARMS

TOO_FEW = "too few pairs to tell"
COMPARED = (
    ("jit", "aot"), ("jit", "auto"), ("auto", "aot"), ("auto", "mended"),
    ("jit", "store"), ("aot", "store"), ("jit", "restarted"), ("auto", "restarted"),
)  # fmt: skip


def of_arms(frame: pd.DataFrame, starts: Starts = ASSUMED) -> dict[str, Any]:
    """`comparison` of one server; `frame` has its measured records only, and `starts` is how starts
    of it differ."""
    ratios = [ratio for arms in COMPARED for ratio in _ratios(frame, *arms, starts)]
    at = {(r["before"], r["after"], r["metric"], r["quantile"]): r for r in ratios}

    def short(name: str, arm: str, column: str) -> dict[str, Any]:
        ratio = at.get(("jit", arm, column, "p50"), {})
        return {name: ratio.get("ratio"), f"{name}_ci95": ratio.get("next_ci95")}

    ttft = at.get(("jit", "aot", "ttft_s", "p50"), {})
    return {
        **short("ttft_p50_speedup", "aot", "ttft_s"),
        **short("e2e_p50_speedup", "aot", "e2e_s"),
        **short("auto_ttft_p50_speedup", "auto", "ttft_s"),
        "paired_ttft_p50_s": {
            "jit": ttft.get("before_value"),
            "aot": ttft.get("after_value"),
        },
        "pairs": ttft.get("pairs", 0),
        "verdict": ttft.get("verdict"),
        "verdict_words": ttft.get("verdict_words"),
        "starts": {"log_sd": starts.log_sd, "degrees": starts.degrees, "words": starts.words},
        "ratios": ratios,
    }


def _ratios(frame: pd.DataFrame, before: str, after: str, starts: Starts) -> list[dict[str, Any]]:
    columns = ("ttft_s", "tpot_s", "e2e_s")
    match = matched(frame[frame["arm"] == before], frame[frame["arm"] == after], columns)
    pairs_of = {column: values(match, column) for column in columns}
    ratios = []
    for column, name in product(columns, metrics.QUANTILES):
        if (pairs := pairs_of[column]).empty:
            continue
        q = metrics.QUANTILES[name]
        faster = speedup(pairs, q, starts)
        verdict = judge(faster)
        ratios.append(
            {
                "before": before,
                "after": after,
                "metric": column,
                "quantile": name,
                "before_value": faster.before,
                "after_value": faster.after,
                "ratio": faster.ratio,
                "ci95": faster.ci95,
                "next_ci95": faster.next_ci95,
                "pairs": faster.pairs,
                "repeats": faster.repeats,
                "verdict": verdict.kind if faster.ci95 else None,
                "verdict_words": verdict.words if faster.ci95 else TOO_FEW,
                "repeats_needed": verdict.repeats_needed,
            }
        )
    return ratios


def between_servers(
    servers: Mapping[str, Mapping[str, Any]], frame: pd.DataFrame
) -> list[dict[str, Any]]:
    """The median TTFT of the first server over that of each other one, per arm, paired by request;
    `servers`: their entries in the manifest, by name.

    Empty for a run of one server.
    """
    ratios, names = [], list(servers)
    for name in names[1:]:
        allowed = of_both(servers[names[0]], servers[name])
        for arm in ARMS:
            rows = frame[frame["measured"] & (frame["arm"] == arm)]
            first, second = (rows[rows["server"] == n] for n in (names[0], name))
            faster = speedup(pair(first, second, "ttft_s"), starts=allowed)
            if faster.pairs:
                ratios.append(
                    {
                        "arm": arm,
                        "servers": [names[0], name],
                        "paired_ttft_p50_s": [faster.before, faster.after],
                        "ttft_p50_ratio": faster.ratio,
                        "ttft_p50_ratio_ci95": faster.next_ci95,
                        "verdict_words": judge(faster).words if faster.ci95 else TOO_FEW,
                        "client_hit_ratios": [
                            metrics.ratio(r["cached_tokens"], r["prompt_tokens"])
                            for r in (first[first["ok"]], second[second["ok"]])
                        ],
                        "pairs": faster.pairs,
                    }
                )
    return ratios
