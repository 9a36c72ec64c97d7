"""How long the oracle's simulations take on a trace, loading apart.

python scripts/bench/oracle.py TRACE [--format NAME]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from aot.analysis.cache import policies, stack_distance
from aot.scripts.terminal import out, say
from aot.scripts.traffic.oracle import source
from aot.workloads.traces.blocks import BlockTrace

SHARES = [0.01 * 1.3**n for n in range(20)]
"""Of the distinct blocks: twenty capacities."""


def main(
    trace: Annotated[Path, typer.Argument(help="a trace with block ids")],
    format_name: Annotated[str | None, typer.Option("--format")] = None,
) -> None:
    """Seconds of one LRU capacity, the exact curve, and the optimum at twenty capacities."""
    began = time.perf_counter()
    blocks = source(trace, format_name, None, False).blocks(None)
    distinct = blocks.distinct_blocks
    say(
        f"{len(blocks):,} requests, {len(blocks.ids):,} block references, {distinct:,} distinct, "
        f"loaded in {time.perf_counter() - began:.2f} s"
    )
    capacities = [max(1, min(distinct, round(s * distinct))) for s in SHARES]
    middle = capacities[len(capacities) // 2]
    jobs: dict[str, Callable[[], object]] = {
        f"lru at {middle:,} blocks": lambda: sum(policies.lru(blocks, middle)),
        f"leaf-lru at {middle:,} blocks": lambda: sum(policies.leaf_lru(blocks, middle)),
        "lru at every capacity": lambda: stack_distance.curve(blocks),
        "opt at 20 capacities": lambda: _opt(blocks, capacities),
    }
    table = Table("simulation", "seconds", "references/s", box=None)
    for name, job in jobs.items():
        began = time.perf_counter()
        job()
        took = time.perf_counter() - began
        count = len(blocks.ids) * (len(capacities) if "20" in name else 1)
        table.add_row(name, f"{took:.3f}", f"{count / took / 1e6:.1f} M")
    out().print(table)


def _opt(blocks: BlockTrace, capacities: list[int]) -> list[int]:
    uses = policies.next_uses(blocks)
    return [sum(policies.opt(blocks, capacity, uses)) for capacity in capacities]


if __name__ == "__main__":
    typer.run(main)
