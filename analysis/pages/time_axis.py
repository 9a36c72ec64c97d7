"""Figures over time: what clients saw and what the server said, on one axis; from cold to warm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from aot.analysis.measures import metrics
from aot.analysis.pages.figures import (
    COLOR,
    MARKER,
    MOST_POINTS,
    RASTER_FROM,
    Figure,
    dress,
    save,
    scatter,
)
from aot.analysis.pages.thinning import evenly
from aot.analysis.runs.run import ServerRun

WINDOW = 10
"""Requests of the running median in the cold → warm curve."""
PANELS = (
    ("running", "requests\nrunning"),
    ("waiting", "requests\nwaiting"),
    ("kv_usage", "KV cache\nin use"),
)


def draw_all(
    servers: Sequence[ServerRun], frame: pd.DataFrame, folder: Path, exports: Sequence[str] = ()
) -> Iterator[Figure]:
    """Both figures of every server that has data for them."""
    for server in servers:
        rows = metrics.of_server(frame, server.name)
        stem = f"_{server.name}" if len(servers) > 1 else ""
        for draw in (cold_to_warm, both_sides):
            if (figure := draw(server, rows, stem, folder, exports)) is not None:
                yield figure


def both_sides(
    server: ServerRun, frame: pd.DataFrame, stem: str, folder: Path, exports: Sequence[str]
) -> Figure | None:
    """TTFT as clients saw it above the server's own gauges; None where nothing was scraped."""
    gauges = [(p.arm, p.gauges) for p in server.phases if len(p.gauges)]
    panels = [(name, label) for name, label in PANELS if any(name in g for _, g in gauges)]
    if not panels:
        return None
    figure, axes = plt.subplots(
        1 + len(panels), 1, figsize=(7.2, 2.4 + 1.2 * len(panels)), layout="constrained",
        sharex=True, height_ratios=[2.2, *[1] * len(panels)],
    )  # fmt: skip
    good = frame[frame["ok"]]
    for arm in server.arms:
        rows = good[good["arm"] == arm]
        scatter(axes[0], rows, rows["sent_s"], arm, size=14)
    log_y = bool(len(good))  # a run without an answer has nothing above the gauges
    dress(axes[0], "Clients and server on one clock", "", "TTFT, s", log_y=log_y)
    for ax, (name, label) in zip(axes[1:], panels, strict=True):
        for arm, seen in gauges:
            if name in seen:
                ax.step(seen["at_s"], seen[name], where="post", color=COLOR[arm], linewidth=1.2)
        dress(ax, "", "", label)
        ax.set_ylim(bottom=0)
    axes[-1].set_xlabel("s after the start of the replay")
    about = Figure(
        f"clients_and_server{stem}.svg", "Clients and server on one clock",
        "Above, the time to first token of each request when it was sent; below, what the server "
        "said at that moment, scraped once a second. Where requests wait, TTFT is queue; where "
        "none do, it is prefill.",
    )  # fmt: skip
    return save(figure, about, folder, exports)


def cold_to_warm(
    server: ServerRun, frame: pd.DataFrame, stem: str, folder: Path, exports: Sequence[str]
) -> Figure | None:
    """TTFT by place in the schedule, with a running median; None without a schedule."""
    if server.schedule is None or not frame["ok"].any():
        return None
    place = {r.id: n for n, r in enumerate(server.schedule.requests, 1)}
    good = frame[frame["ok"]].assign(place=frame["id"].map(place)).dropna(subset=["place"])
    window = min(WINDOW, max(int(good["place"].max()) // 4, 1))
    figure, ax = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    for arm in server.arms:
        rows = good[good["arm"] == arm].sort_values("place")
        # Over repeats the same place is the same request: one point for each.
        middle = rows.groupby("place")["ttft_s"].median()
        running = middle.rolling(window, min_periods=1).median()
        at = evenly(len(middle), MOST_POINTS)
        middle, running = middle.iloc[at], running.iloc[at]
        ax.scatter(middle.index, middle, s=12, alpha=0.5, color=COLOR[arm], marker=MARKER[arm],
                   rasterized=len(middle) > RASTER_FROM)  # fmt: skip
        ax.plot(running.index, running, color=COLOR[arm], linewidth=1.8, label=arm)
    dress(ax, "From cold to warm", "place in the schedule", "TTFT, s (log scale)", log_y=True)
    about = Figure(
        f"cold_to_warm{stem}.svg", "From cold to warm",
        f"Each point is one request by its place in the schedule (the median over repeats), the "
        f"line a running median of {window}. auto pays for every static prefix the first time it "
        "comes; aot has paid before the clock.",
    )  # fmt: skip
    return save(figure, about, folder, exports)
