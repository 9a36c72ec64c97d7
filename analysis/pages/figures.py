"""The figures of a report, in one style: baseline grey, treatments in Okabe–Ito colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")  # no display needed

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import LogLocator, NullFormatter

from aot.analysis.measures import metrics
from aot.analysis.pages.thinning import evenly, thin

COLOR = {"jit": "#7f7f7f", "auto": "#E69F00", "aot": "#0072B2",
         "mended": "#56B4E9", "store": "#009E73", "restarted": "#CC79A7"}  # fmt: skip
MARKER = {"jit": "s", "auto": "^", "aot": "o", "mended": "P", "store": "D", "restarted": "v"}
SIZE = (7.2, 3.6)
DPI = 130
RASTER_FROM = 2_000
"""Thousands of points are a picture within the drawing: each of them would weigh 100 bytes."""
MOST_POINTS = 10_000
"""Of one arm: more lie on top of each other."""
NARROW = 100.0
SPREAD = 1.25
"""The largest over the smallest: lengths from 2,095 to 2,102 tokens show nothing."""
mpl.rcParams["svg.hashsalt"] = "aot"  # the same records give the same bytes


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure on disk, with the caption that says what to see in it."""

    file: str
    title: str
    caption: str


@dataclass(frozen=True, slots=True)
class _Plot:
    figure: Figure
    draw: Callable[[Axes, pd.DataFrame, str], None]
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    x: Callable[[pd.DataFrame], pd.Series] | None = None
    """What it shows TTFT against: where that is about the same for all, it says nothing."""


def _cdf(ax: Axes, frame: pd.DataFrame, arm: str) -> None:
    values = np.sort(frame["ttft_s"].dropna())
    at = evenly(len(values), MOST_POINTS)
    # From 0 on: at the smallest value nothing is below it.
    x, y = np.append(values[:1], values[at]), np.append(0.0, (at + 1) / len(values))
    ax.step(x, y, where="post", label=arm, color=COLOR[arm], linewidth=2)


def _against_length(ax: Axes, frame: pd.DataFrame, arm: str) -> None:
    scatter(ax, frame, frame["prompt_tokens"], arm)


def _against_uncached(ax: Axes, frame: pd.DataFrame, arm: str) -> None:
    scatter(ax, frame, metrics.uncached(frame), arm)


def scatter(ax: Axes, frame: pd.DataFrame, x: pd.Series, arm: str, size: int = 22) -> None:
    """TTFT of one arm's answered requests against `x`; of very many, as many as can be seen."""
    shown = thin(frame, MOST_POINTS)
    label = arm if len(shown) == len(frame) else f"{arm} ({len(shown):,} of {len(frame):,})"
    ax.scatter(
        x.loc[shown.index], shown["ttft_s"], label=label, s=size, alpha=0.8, color=COLOR[arm],
        marker=MARKER[arm], rasterized=len(shown) > RASTER_FROM,
    )  # fmt: skip


PLOTS = (
    _Plot(
        Figure(
            "ttft_cdf.svg",
            "Time to first token",
            "Share of requests whose first token had arrived by then. Further left is faster; a "
            "step in auto is the cold first request of each static prefix.",
        ),
        _cdf,
        "time to first token, s (log scale)",
        "share of requests",
        log_x=True,
    ),
    _Plot(
        Figure(
            "ttft_by_prompt_length.svg",
            "Time to first token by prompt length",
            "Each point is one request. In jit its whole length is paid for; in aot only what "
            "comes after the static prefix.",
        ),
        _against_length,
        "prompt tokens, as served",
        "time to first token, s (log scale)",
        log_y=True,
        x=lambda f: f["prompt_tokens"],
    ),
    _Plot(
        Figure(
            "ttft_by_uncached_tokens.svg",
            "Time to first token by uncached tokens",
            "Each point is one request, at the prompt tokens that were not in the cache. If only "
            "these are paid for, the arms lie on one line.",
        ),
        _against_uncached,
        "prompt tokens not in the cache",
        "time to first token, s",
        x=metrics.uncached,
    ),
)


def draw_all(
    frame: pd.DataFrame, arms: dict[str, list[str]], folder: Path, exports: Sequence[str] = ()
) -> list[Figure]:
    """Write the figures that `frame` (metrics.derive) has data for; returns them in order.

    `arms` by server: each server gets a panel of its own, on common axes. `exports`: formats
    besides SVG, as matplotlib names them.
    """
    if not frame["ok"].any():
        return []
    folder.mkdir(parents=True, exist_ok=True)
    good = frame[frame["ok"]]
    told = [p for p in PLOTS if p.x is None or _spread(p.x(good).dropna())]
    return [_draw(plot, good, arms, folder, exports) for plot in told]


def _spread(x: pd.Series) -> bool:
    """Whether there is anything to see against `x`."""
    return bool(len(x)) and float(x.max()) > SPREAD * max(float(x.min()), 1.0)


def _draw(
    plot: _Plot,
    frame: pd.DataFrame,
    arms: dict[str, list[str]],
    folder: Path,
    exports: Sequence[str],
) -> Figure:
    width, height = SIZE
    figure, panels = plt.subplots(
        1,
        len(arms),
        figsize=(width * (1 + 0.6 * (len(arms) - 1)), height),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for ax, (server, its_arms) in zip(panels[0], arms.items(), strict=True):
        for arm in its_arms:
            rows = frame[(frame["arm"] == arm) & (frame["server"] == server)]
            if len(rows):
                plot.draw(ax, rows, arm)
        title = f"{plot.figure.title}, {server}" if len(arms) > 1 else plot.figure.title
        dress(ax, title, plot.x_label, plot.y_label, log_x=plot.log_x, log_y=plot.log_y)
    return save(figure, plot.figure, folder, exports)


def save(drawn: Drawing, figure: Figure, folder: Path, exports: Sequence[str] = ()) -> Figure:
    """Write a drawing as SVG and in the formats of `exports`, and let go of it."""
    folder.mkdir(parents=True, exist_ok=True)
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    for kind in ("svg", *exports):
        path = (folder / figure.file).with_suffix(f".{kind}")
        drawn.savefig(path, dpi=DPI, metadata=dates.get(kind))
    plt.close(drawn)
    return figure


def _plain_decades(axis: Axis) -> None:
    """Plain numbers on a log axis; 1, 2 and 5 of a decade where there are only one or two."""
    low, high = axis.get_view_interval()
    if 0 < low < high < NARROW * low:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def dress(
    ax: Axes, title: str, x_label: str, y_label: str, *, log_x: bool = False, log_y: bool = False
) -> None:
    """The house style of one panel."""
    ax.set_xscale("log" if log_x else "linear")
    ax.set_yscale("log" if log_y else "linear")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    for axis, is_log in ((ax.xaxis, log_x), (ax.yaxis, log_y)):
        if is_log:
            _plain_decades(axis)
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.set_title(title, loc="left")
    ax.grid(visible=True, which="both", alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    if ax.get_legend_handles_labels()[0]:
        # Above the axes: looking for the emptiest corner takes a second with thousands of points.
        ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=3)
