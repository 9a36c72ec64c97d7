"""A cache of blocks with a capacity: what it finds of each request, and what it gives up for it.

vLLM's own order (v1/core/block_pool.py): blocks of a request that is over go to the end of a queue,
its last ones first, and new blocks are taken from the front; blocks that nobody can find are taken
first. A block that is found leaves the queue.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from aot.configs.caches.rule import CacheRule, Layers

Key = tuple[int, Hashable]
"""A group and the name of a beginning."""


@dataclass(slots=True, eq=False)
class Block:
    users: int = 0
    key: Key | None = None


@dataclass(slots=True)
class Running:
    """A request from its start to its end. `names`: of its full blocks, and those of its answer as
    they come (kernel/chains.py). `tables`: the blocks of each group, None for those not needed."""

    prompt_tokens: int
    names: list[Hashable]
    found: int = 0
    """Blocks."""
    junction: int = 0
    computed_tokens: int = 0
    tables: list[list[Block | None]] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    """Blocks of each group that are dealt with."""
    states: dict[int, int] = field(default_factory=dict)
    """By group: the state before the last one."""
    retired: dict[int, int] = field(default_factory=dict)


class PagedCache:
    """`blocks`: how many there are in all. Requests are started, advanced as they are computed, and
    finished, in whatever order."""

    def __init__(self, rule: CacheRule, blocks: int) -> None:
        self.rule = rule
        self._groups = [
            (number, group) for number, group in enumerate(rule.layers) for _ in range(group.copies)
        ]
        self._of: dict[int, list[int]] = defaultdict(list)
        for place, (number, _) in enumerate(self._groups):
            self._of[number].append(place)
        self._free: OrderedDict[Block, None] = OrderedDict((Block(), None) for _ in range(blocks))
        self._cached: dict[Key, OrderedDict[Block, None]] = defaultdict(OrderedDict)

    def start(self, prompt_tokens: int, names: Sequence[Hashable]) -> Running:
        """What is found of a prompt; its blocks are held from now on."""
        running = Running(prompt_tokens, list(names))
        running.found, running.junction = self.rule.found(
            prompt_tokens,
            len(running.names),
            lambda number, at: all(
                (p, running.names[at]) in self._cached for p in self._of[number]
            ),
        )
        running.computed_tokens = running.found * self.rule.block_tokens
        for place, (_, group) in enumerate(self._groups):
            running.tables.append(self._touched(place, group, running))
            running.kept.append(len(running.tables[place]))
        return running

    def advance(self, running: Running, tokens: int) -> None:
        """Compute the next `tokens` of a request; ValueError where there is no room for them."""
        until = running.computed_tokens + tokens
        for place, (_, group) in enumerate(self._groups):
            self._give_up(place, group, running)
        for place, (_, group) in enumerate(self._groups):
            self._allocate(place, group, running, until)
        for place, (_, group) in enumerate(self._groups):
            self._keep(place, group, running, until)
        running.computed_tokens = until

    def finish(self, running: Running) -> None:
        for table in running.tables:
            self._release(reversed(table))

    def _touched(self, place: int, group: Layers, running: Running) -> list[Block | None]:
        skipped = _skipped(group, running.computed_tokens) // self.rule.block_tokens
        table: list[Block | None] = [None] * min(skipped, running.found)
        for name in running.names[len(table) : running.found]:
            block = next(iter(self._cached[place, name]))
            if not block.users:
                del self._free[block]
            block.users += 1
            table.append(block)
        return table

    def _allocate(self, place: int, group: Layers, running: Running, until: int) -> None:
        table = running.tables[place]
        needed = -(-until // self.rule.block_tokens)
        if group.kind == "state" and needed > len(table):
            if table:
                running.states[place] = len(table) - 1
            table.extend([None] * (needed - 1 - len(table)))
        for _ in range(needed - len(table)):
            table.append(self._new())

    def _new(self) -> Block:
        if not self._free:
            raise ValueError("the cache has no block left that nobody holds")
        block, _ = self._free.popitem(last=False)
        self._forget(block)
        block.users = 1
        return block

    def _forget(self, block: Block) -> None:
        if block.key is not None:
            held = self._cached[block.key]
            del held[block]
            if not held:
                del self._cached[block.key]
            block.key = None

    def _give_up(self, place: int, group: Layers, running: Running) -> None:
        """Blocks that no token to come will look at."""
        table, size = running.tables[place], self.rule.block_tokens
        end = min(_skipped(group, running.computed_tokens) // size, len(table))
        gone: list[Block | None] = []
        for at in range(end - 1, running.retired.get(place, 0) - 1, -1):
            if table[at] is None and group.kind != "state":
                break
            gone.append(table[at])
            table[at] = None
        self._release(gone)
        if group.kind != "state":
            return
        running.retired[place] = max(running.retired.get(place, 0), end)
        before = running.states.get(place)
        if before is not None and before < -(-running.computed_tokens // size) - 1:
            self._release([table[before]])
            table[before] = None

    def _keep(self, place: int, group: Layers, running: Running, until: int) -> None:
        size = self.rule.block_tokens
        start, end = running.kept[place], min(until // size, len(running.names))
        table = running.tables[place]
        for at in self.rule.kept(group, running.prompt_tokens, running.junction, start, end):
            block = table[at]
            if block is not None:
                block.key = (place, running.names[at])
                self._cached[block.key][block] = None
        running.kept[place] = max(start, end)

    def _release(self, blocks: Iterable[Block | None]) -> None:
        """The first of `blocks` are taken first; those without a name before all others."""
        unnamed = []
        for block in blocks:
            if block is None:
                continue
            block.users -= 1
            if block.users:
                continue
            self._free[block] = None
            if block.key is None:
                unnamed.append(block)
        for block in reversed(unnamed):
            self._free.move_to_end(block, last=False)


def _skipped(group: Layers, computed_tokens: int) -> int:
    """Leading tokens that those to come do not look at."""
    if group.kind == "window":
        return max(0, computed_tokens - group.tokens + 1)
    if group.kind == "chunk":
        return computed_tokens // group.tokens * group.tokens
    if group.kind in ("state", "states"):
        return max(0, computed_tokens - 1)
    return 0
