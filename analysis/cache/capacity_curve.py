"""Hit ratio against the capacity of the cache, as a figure."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure

from aot.analysis.cache.reach import Reach
from aot.analysis.cache.stack_distance import Curve

COLOR = {
    "lru": "#0072B2",
    "leaf-lru": "#009E73",
    "radix": "#56B4E9",
    "in-flight": "#E69F00",
    "fifo": "#7f7f7f",
    "lfu": "#CC79A7",
    "opt": "#D55E00",
}
MARKER = {
    "lru": "o",
    "leaf-lru": "s",
    "radix": "P",
    "in-flight": "X",
    "fifo": "v",
    "lfu": "^",
    "opt": "D",
}


def svg(curve: Curve, total_tokens: int, reaches: Sequence[Reach]) -> str:
    """LRU exactly at every capacity; the policies in `reaches` where they were simulated."""
    figure = Figure(figsize=(7.2, 3.8), layout="constrained")
    ax = figure.subplots()
    if len(curve.capacity_blocks):
        ratios = curve.hit_tokens / total_tokens
        ax.step(curve.capacity_blocks, ratios, where="post", color=COLOR["lru"], label="lru, exact")
        ax.axhline(ratios[-1], color="black", linestyle=":", label="infinite cache")
    for policy in dict.fromkeys(r.policy for r in reaches):
        points = [(r.capacity_blocks, r.hit_ratio) for r in reaches if r.policy == policy]
        known = [(c, h) for c, h in points if c is not None]
        if known:
            x, y = zip(*known, strict=True)
            ax.plot(
                x, y, marker=MARKER[policy], color=COLOR[policy], label=policy,
                linestyle="" if policy == "lru" else "-", linewidth=1,
            )  # fmt: skip
    ax.set(
        xscale="log",
        ylim=(0, None),
        xlabel="capacity, blocks (log scale)",
        ylabel="hit ratio, by tokens",
        title="What a prefix cache of this size can find",
    )
    ax.grid(visible=True, alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
