"""Random steps on a radix tree: prompts that share beginnings are looked for, put there, held and
given up; and what `RadixCache` gives, for SGLang's own to be held against it."""

from __future__ import annotations

import random
from typing import Any

from aot.configs.caches.radix import Node, RadixCache
from aot.configs.kernel.chains import block_chain

STEPS = 120


def play(page: int, rng: random.Random) -> tuple[dict[str, Any], list[int]]:
    """A case as tests/support/sglang_radix_cache.py takes it, and what each step gave, in
    tokens."""
    cache, steps, given = RadixCache(1_000_000), [], []
    texts: list[list[int]] = [[]]
    ends: dict[int, Node] = {}
    held: list[int] = []

    def note(kind: str, value: Any, gave: int, number: int | None = None) -> None:
        steps.append({"kind": kind, "value": value, "id": number})
        given.append(gave)

    for number in range(STEPS):
        kind = rng.choice(("match", "match", "insert", "insert", "evict", "hold", "drop"))
        if kind in ("match", "insert"):
            base = rng.choice(texts)
            kept = base[: rng.randrange(len(base) + 1)]
            text = [*kept, *(rng.randrange(1000) for _ in range(rng.randrange(1, 12 * page)))]
            texts.append(text)
            names = list(block_chain(text, page))
            if kind == "match":
                found, ends[number] = cache.match(names)
                note("match", text, found * page, number)
            else:
                note("insert", text, cache.insert(names) * page)
        elif kind == "evict":
            blocks = rng.randrange(1, 20)
            note("evict", blocks * page, cache.evict(blocks) * page)
            ends = {n: node for n, node in ends.items() if n in held}
        elif kind == "hold" and ends:
            which = rng.choice(sorted(ends))
            cache.hold(ends[which])
            held.append(which)
            note("hold", which, 0)
        elif kind == "drop" and held:
            which = held.pop(rng.randrange(len(held)))
            cache.let_go(ends[which])
            note("drop", which, 0)
    return {"page": page, "steps": steps}, given
