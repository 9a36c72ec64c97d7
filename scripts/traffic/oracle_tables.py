"""What `aot oracle` shows: hit ratios by capacity and policy; orders of prompts, priced."""

from __future__ import annotations

from collections.abc import Sequence

from aot.analysis.cache.layouts import Layout
from aot.analysis.cache.reach import Reach, gaps
from aot.scripts.terminal import note, say, table


def show(reaches: Sequence[Reach], requests: int | None, groups: int) -> None:
    """A row a capacity, a column a policy; `groups` of layers that share the blocks."""
    names = list(dict.fromkeys(r.policy for r in reaches))
    first = reaches[0]
    say(
        ("" if requests is None else f"{requests:,} requests, ")
        + f"{first.total_tokens:,} tokens, {first.total_blocks:,} blocks of "
        f"{first.block_size}; hit ratio by tokens"
    )
    lost = {g.capacity_blocks: g for g in gaps(reaches)}
    found = {(r.policy, r.capacity_blocks): f"{r.hit_ratio:.2%}" for r in reaches}
    rows = []
    for capacity in dict.fromkeys(r.capacity_blocks for r in reaches):
        row = [found.get((name, capacity), "") for name in names]
        gap = lost.get(capacity) if capacity else None
        shares = (gap.policy_tokens, gap.capacity_tokens) if gap else (None, None)
        rows.append(
            (
                f"{capacity:,}" if capacity else "infinite",
                f"{capacity * first.block_size:,}" if capacity and groups == 1 else "",
                *row,
                *("" if s is None else f"{s / first.total_tokens:.2%}" for s in shares),
            )
        )
    headers = ("blocks", "tokens", *names, "lost to policy", "lost to capacity")
    table(headers, rows, right=headers)
    if lost:
        say("lost to policy: opt − leaf-lru; lost to capacity: infinite − opt")


def show_layouts(layouts: Sequence[Layout]) -> None:
    """The first is the order as logged."""
    rows = [
        (
            layout.name,
            f"{layout.hit_ratio:.2%}",
            f"{layout.gain_tokens / layout.total_tokens:+.2%}",
            f"{layout.gain_tokens:+,}",
            layout.what,
        )
        for layout in layouts
    ]
    right = ("hit ratio", "gain", "tokens")
    table(("layout", *right, ""), rows, right=right)
    note("in an infinite cache; every layout sends the same parts of the same requests")
    logged = layouts[0]
    best = max(layouts[1:], key=lambda x: (x.reachable, x.hit_tokens))
    missed = logged.total_tokens - logged.hit_tokens
    if best.gain_tokens > 0:
        say(
            f"the order as logged costs {best.gain_tokens:,} tokens, "
            f"{best.gain_tokens / missed:.0%} of all that is computed; mended by: {best.name}"
        )
    else:
        say("no order of these parts finds more than the one that is sent")
