"""The curves of a sweep: what was measured against the setting, with bands of 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from aot.analysis.pages.figures import COLOR, MARKER, SIZE, Figure, dress, save
from aot.analysis.studies.break_even import RULE_TOKENS

LINE = ("-", "--", "-.", ":")
"""By server."""


@dataclass(frozen=True, slots=True)
class _Curve:
    figure: Figure
    draw: Callable[[Axes, pd.DataFrame, str, str], None]
    y_label: str
    log_y: bool = False


def _line(ax: Axes, rows: pd.DataFrame, y: str, style: str, label: str) -> None:
    arm = str(rows["arm"].iloc[0])
    ax.plot(
        rows["x"], rows[y], style, color=COLOR[arm], marker=MARKER[arm], label=label, markersize=5
    )


def _band(ax: Axes, rows: pd.DataFrame, low: str, high: str) -> None:
    known = rows.dropna(subset=[low, high])
    arm = str(rows["arm"].iloc[0])
    ax.fill_between(
        known["x"], known[low].astype(float), known[high].astype(float), color=COLOR[arm],
        alpha=0.2, linewidth=0,
    )  # fmt: skip


def _median(ax: Axes, rows: pd.DataFrame, style: str, label: str) -> None:
    _band(ax, rows, "ttft_p50_low_s", "ttft_p50_high_s")
    _line(ax, rows, "ttft_p50_s", style, label)


def _tail(ax: Axes, rows: pd.DataFrame, style: str, label: str) -> None:
    _line(ax, rows, "ttft_p99_s", style, label)


def _speedup(ax: Axes, rows: pd.DataFrame, style: str, label: str) -> None:
    if rows["arm"].iloc[0] == "jit":
        ax.axhline(1, color="black", linewidth=0.8)
        return
    _band(ax, rows, "speedup_low", "speedup_high")
    _line(ax, rows, "speedup", style, f"jit ÷ {label}")


def _hits(ax: Axes, rows: pd.DataFrame, style: str, label: str) -> None:
    if rows["arm"].iloc[0] == "jit":
        return
    arm = str(rows["arm"].iloc[0])
    _line(ax, rows, "hit_ratio", style, label)
    ax.plot(rows["x"], rows["reachable_here"], "--", color=COLOR[arm], alpha=0.7, linewidth=1,
            label=f"{label}, oracle at this capacity")  # fmt: skip
    ax.plot(rows["x"], rows["reachable"], ":", color=COLOR[arm], alpha=0.7, linewidth=1,
            label=f"{label}, oracle without a limit")  # fmt: skip


def _throughput(ax: Axes, rows: pd.DataFrame, style: str, label: str) -> None:
    _line(ax, rows, "requests_per_s", style, label)


CURVES = (
    _Curve(
        Figure(
            "ttft_p50.svg",
            "Median time to first token",
            "The median of each arm at each setting, with its 95 % interval. Where jit rises and "
            "aot stays flat, the difference is what the cache saves.",
        ),
        _median,
        "TTFT p50, s (log scale)",
        log_y=True,
    ),
    _Curve(
        Figure(
            "ttft_p99.svg",
            "99th percentile of time to first token",
            "What the slowest one in a hundred waits; with few requests it is the slowest of all. "
            "A sudden rise means a queue.",
        ),
        _tail,
        "TTFT p99, s (log scale)",
        log_y=True,
    ),
    _Curve(
        Figure(
            "speedup.svg",
            "How much faster than jit",
            "Median TTFT of jit over that of the other arm, the same requests paired, with its "
            "95 % interval. Where the band includes 1 there is no effect to speak of.",
        ),
        _speedup,
        "ratio of median TTFT (log scale)",
        log_y=True,
    ),
    _Curve(
        Figure(
            "hit_ratio.svg",
            "Hit ratio",
            "Measured against what an oracle finds in a cache of the engine's own capacity, and "
            "in one without a limit. Where these two part, the cache is too small.",
        ),
        _hits,
        "cached / prompt tokens",
    ),
    _Curve(
        Figure(
            "throughput.svg",
            "Requests answered per second",
            "Answered requests over the duration of the replay. In an open loop it follows the "
            "rate until the server cannot keep up.",
        ),
        _throughput,
        "requests / s",
    ),
)


def draw_all(frame: pd.DataFrame, setting: str, folder: Path) -> list[Figure]:
    """Write every curve that `frame` (analysis.study rows) has data for; returns them in order."""
    if frame.empty:
        return []
    numeric = pd.to_numeric(frame["value"], errors="coerce").notna().all()
    places = {v: n for n, v in enumerate(dict.fromkeys(frame["value"]))}
    frame = frame.assign(x=frame["value"] if numeric else frame["value"].map(places))
    names = None if numeric else list(places)
    return [_draw(curve, frame.sort_values("x"), setting, names, folder) for curve in CURVES]


def _draw(
    curve: _Curve, frame: pd.DataFrame, setting: str, names: list[str] | None, folder: Path
) -> Figure:
    figure, ax = plt.subplots(figsize=SIZE, layout="constrained")
    servers = list(dict.fromkeys(frame["server"]))
    for (server, arm), rows in frame.groupby(["server", "arm"], sort=False):
        label = f"{arm}, {server}" if len(servers) > 1 else str(arm)
        curve.draw(ax, rows, LINE[servers.index(server) % len(LINE)], label)
    dress(ax, curve.figure.title, setting, curve.y_label, log_y=curve.log_y)
    if names is not None:
        ax.set_xticks(range(len(names)), [str(n) for n in names])
    if setting == "static_tokens" and curve.draw is _speedup:
        ax.axvline(RULE_TOKENS, color="black", linewidth=0.8, linestyle=":")
    return save(figure, curve.figure, folder)
