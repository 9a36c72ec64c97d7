"""The requests that the page lets a reader look at one by one."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from aot.analysis.measures import metrics
from aot.analysis.pages.thinning import thin
from aot.configs.schema.experiment import ARMS

MOST_POINTS = 3_000
SLOWEST_LISTED = 5
COLUMNS = {
    "server": "server", "arm": "arm", "repeat": "repeat", "id": "request", "tenant": "tenant",
    "sent_s": "sent, s", "ttft_s": "TTFT, s", "e2e_s": "E2E, s", "prompt_tokens": "prompt tokens",
    "cached_tokens": "cached tokens", "output_tokens": "output tokens",
}  # fmt: skip


def points(frame: pd.DataFrame) -> dict[str, Any] | None:
    """Columns and rows of up to MOST_POINTS answered requests: the slowest of each arm, and others
    at equal distances in the order of sending. None where none was answered."""
    good = frame.loc[frame["ok"], list(COLUMNS)].sort_values("sent_s")
    if good.empty:
        return None
    chosen = thin(good, MOST_POINTS)
    table = chosen.astype(object).where(chosen.notna(), None)
    return {
        "columns": list(COLUMNS.values()),
        "x": list(COLUMNS).index("sent_s"),
        "y": list(COLUMNS).index("ttft_s"),
        "arm": list(COLUMNS).index("arm"),
        "arms": [a for a in ARMS if a in set(chosen["arm"])],
        "rows": [[_short(v) for v in row] for row in table.to_numpy().tolist()],
        "all": len(good),
    }


def as_script(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def slowest(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """The requests of each server and arm with the longest TTFT: none is left out as an outlier."""
    groups = frame[frame["ok"]].groupby(["server", "arm"])["ttft_s"]
    requests = frame.loc[groups.nlargest(SLOWEST_LISTED).index.get_level_values(-1)]
    requests = requests.assign(uncached_tokens=metrics.uncached(requests))
    rows: list[dict[Any, Any]] = requests.to_dict("records")
    return sorted(rows, key=lambda r: (r["server"], ARMS.index(r["arm"]), -r["ttft_s"]))


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else round(value, 4)
    return value
