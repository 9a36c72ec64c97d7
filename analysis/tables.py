"""A run as tidy data frames, for notebooks and for CSV."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from aot.analysis.measures import metrics
from aot.analysis.report import Evaluation, evaluate


@dataclass(frozen=True, slots=True)
class Tables:
    """Seconds in `_s`, counts in `_tokens`, rates in `_per_s`; NaN or None: unknown.

    requests     one row a request: metrics.REQUEST_COLUMNS. `planned_s`, `sent_s`, `first_token_s`
                 and `last_token_s` count from the start of the replay; `measured`: not in warm-up
                 or cool-down
    arms         one row a server and arm: every single number of summary.json, its path as the
                 column (`ttft_s.p50`, `cache.client_hit_ratio`)
    comparison   one row a server, pair of arms, metric and quantile: ratio, interval, verdict
    findings     one row a check: level, check, detail
    """

    requests: pd.DataFrame
    arms: pd.DataFrame
    comparison: pd.DataFrame
    findings: pd.DataFrame


def read(run: Path) -> Tables:
    """The run in a folder. Raises UsageError when it is none."""
    return of(evaluate(run))


def of(evaluation: Evaluation) -> Tables:
    """The tables of an evaluated run."""
    servers = evaluation.summary["servers"].items()
    arms = [
        {"server": server, "arm": arm, **_flat(numbers)}
        for server, part in servers
        for arm, numbers in part["arms"].items()
    ]
    ratios = [
        {"server": server, **_flat_ends(row)}
        for server, part in servers
        for row in part["comparison"]["ratios"]
    ]
    return Tables(
        metrics.requests(evaluation.frame),
        pd.DataFrame(arms),
        pd.DataFrame(ratios),
        pd.DataFrame([asdict(f) for f in evaluation.findings]),
    )


def _flat_ends(row: dict[str, Any]) -> dict[str, Any]:
    """A ratio with the ends of its intervals as columns: ci95_low, next_ci95_high, ..."""
    flat = {k: v for k, v in row.items() if not k.endswith("ci95")}
    for name in ("ci95", "next_ci95"):
        flat[f"{name}_low"], flat[f"{name}_high"] = row[name] or (None, None)
    return flat


def _flat(value: dict[str, Any], path: str = "") -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for key, inner in value.items():
        if key == "errors":  # texts of errors are no columns
            continue
        here = f"{path}.{key}" if path else key
        columns |= _flat(inner, here) if isinstance(inner, dict) else {here: inner}
    return columns
