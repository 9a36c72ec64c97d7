"""Which blocks of a prompt a cache finds, and which it keeps: the rule of each kind of model.

A model has groups of layers, and each group keeps blocks of its own: full attention every one,
a sliding window those at the end of a window, a state (Mamba, linear attention) one alone. A prompt
is found as far as all groups have what they need to go on from there; what one group has beyond
that is a beginning that others may share (a junction), and is kept from then on.

As vLLM 0.32 does it (v1/core/kv_cache_coordinator.py, single_type_kv_cache_manager.py); held
against its own code, schedule by schedule, in tests/engine/test_cache_rules.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["full", "window", "chunk", "state", "states"]
Has = Callable[[int, int], bool]
"""Whether a group, by its number, has the block of that number."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers whose blocks are kept together. `tokens`: of the window or chunk that they see; 0 for
    full attention, and for a state ('state': one at the end of a chunk of prefill; 'states': one
    for every block). `copies`: groups of such layers, each with blocks of its own."""

    kind: Kind
    tokens: int = 0
    copies: int = 1


@dataclass(frozen=True, slots=True)
class CacheRule:
    """`block_tokens`: what is kept and found in whole multiples.

    `retention_tokens`: how far apart a window or a state is kept while it is computed: 0 at the end
    of a prompt and at known junctions only, None everywhere. `drops_last_block`: with EAGLE or MTP,
    whose draft needs the last block anew.
    """

    block_tokens: int
    layers: tuple[Layers, ...] = (Layers("full"),)
    retention_tokens: int | None = 0
    drops_last_block: bool = False

    @property
    def is_dense(self) -> bool:
        """Whether what was sent once is found, block by block, from the next request on."""
        return all(group.kind in ("full", "chunk") for group in self.layers)

    @property
    def fills(self) -> int:
        """How often a beginning has to be sent until whatever follows it finds it: in a sparse
        cache the first request leaves its own end, and the second one tells that it is shared."""
        return 1 if self.is_dense or self.retention_tokens is None or self.is_alone else 2

    @property
    def groups(self) -> int:
        """Blocks that a part of a prompt takes, over all groups of layers, while it is computed."""
        return sum(group.copies for group in self.layers)

    @property
    def advice(self) -> str | None:
        """What who sends prompts has to know of it, in words; None where there is nothing."""
        if self.is_alone:
            return (
                "all layers of this model see a window, or keep a state, only: what a prompt finds "
                "of an earlier one is known by sending it; set a retention interval"
            )
        if self.fills > 1 and not self.retention_tokens:
            return (
                "this model keeps windows or states: a common beginning is found from the third "
                "request on, or, with a retention interval, from the second (docs/caches.md)"
            )
        return None

    @property
    def is_alone(self) -> bool:
        """One kind of layers, and that sparse: no other tells where two prompts part, so that what
        a later one finds is known only by sending it."""
        return len(self.layers) == 1 and not self.is_dense and self.retention_tokens is not None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(row: dict[str, Any]) -> CacheRule:
        return CacheRule(**{**row, "layers": tuple(Layers(**g) for g in row["layers"])})

    def found(self, prompt_tokens: int, blocks: int, has: Has) -> tuple[int, int]:
        """How many blocks of a prompt are found, and the junction: how many some group has, where
        that is more; else 0. `blocks`: the full ones that there are of it."""
        return _Search(self, prompt_tokens, blocks, has).run()

    def expected_tokens(self, shared_tokens: int, prompt_tokens: int) -> int:
        """What is found of a prompt whose first `shared_tokens` are in the cache, junction and
        all."""
        if self.is_alone and shared_tokens < prompt_tokens:
            return 0
        most = min(shared_tokens, prompt_tokens - 1)
        if self.drops_last_block:
            most = min(shared_tokens, most + self._peek) - self.block_tokens
        return max(0, most) // self.block_tokens * self.block_tokens

    @property
    def _peek(self) -> int:
        """With several groups, what is dropped may be the block with the last token in it."""
        return self.block_tokens if len(self.layers) > 1 else 0

    def kept(
        self, group: Layers, prompt_tokens: int, junction: int, start: int, end: int
    ) -> Iterator[int]:
        """Which blocks from `start` to `end`, now computed, `group` keeps of a request."""
        if group.kind in ("full", "chunk") or self.retention_tokens is None:
            yield from range(start, end)
            return
        need = _needed(self, group)
        shift = int(self.drops_last_block and group.kind == "window")
        wanted: set[int] = set()
        if self.retention_tokens:
            per_segment = self.retention_tokens // self.block_tokens
            if need >= per_segment:
                yield from range(start, end)
                return
            wanted |= {
                i
                for i in range(start, end)
                if i >= shift and (i - shift) % per_segment >= per_segment - need
            }
        for boundary in (*self._ends(prompt_tokens), *([junction] if junction else [])):
            wanted |= set(range(boundary + shift - need, boundary + shift))
        yield from (i for i in range(start, end) if i in wanted)

    def _ends(self, prompt_tokens: int) -> tuple[int, ...]:
        """Blocks up to which another request with the same prompt, or a longer one, would find."""
        again = (prompt_tokens - 1) // self.block_tokens
        if not self.drops_last_block:
            return (again,)
        return (max(again - 1, 0), max(prompt_tokens // self.block_tokens - 1, 0))


def _needed(rule: CacheRule, group: Layers) -> int:
    """Blocks in a row at whose end a group can go on."""
    if group.kind != "window":
        return 1
    return -(-(group.tokens - 1) // rule.block_tokens) + int(rule.drops_last_block)


@dataclass(slots=True)
class _Search:
    """The longest beginning that all groups can go on from: each shortens what the one before it
    found, until none does."""

    rule: CacheRule
    prompt_tokens: int
    blocks: int
    has: Has
    longest: int = 0
    full: dict[int, int] = field(default_factory=dict)
    dropped: set[int] = field(default_factory=set)

    def run(self) -> tuple[int, int]:
        rule = self.rule
        order = sorted(enumerate(rule.layers), key=lambda pair: pair[1].kind != "full")
        most = min((self.prompt_tokens - 1) // rule.block_tokens, self.blocks)
        if len(order) == 1:
            number, group = order[0]
            return self._of(number, group, most, drop=rule.drops_last_block), 0
        once = len(order) == 2 and order[0][1].kind == "full"
        while True:
            now = most
            for number, group in order:
                now = self._shortened(number, group, now)
                self.longest = max(self.longest, now)
            if now >= most:
                break
            most = now
            if once:
                break
        return most, self.longest if self.longest > most else 0

    def _shortened(self, number: int, group: Layers, most: int) -> int:
        if group.kind == "full" and number in self.full:
            return min(most, self.full[number])
        drop = self.rule.drops_last_block and number not in self.dropped
        peek = int(drop and group.kind not in ("state", "states"))
        reach = min(most + peek, self.blocks)
        tokens = self._of(number, group, reach, drop)
        if drop:
            self.dropped.add(number)
        elif tokens < most:
            self.dropped.clear()
        if group.kind == "full":
            self.full[number] = tokens
        return tokens

    def _of(self, number: int, group: Layers, most: int, drop: bool) -> int:
        if group.kind == "full":
            return max(_leading(self.has, number, 0, most) - int(drop), 0)
        if group.kind == "chunk":
            first = most * self.rule.block_tokens // group.tokens * group.tokens
            return _leading(self.has, number, first // self.rule.block_tokens, most)
        if group.kind == "window":
            need = -(-(group.tokens - 1) // self.rule.block_tokens) + int(drop)
            return max(_tail(self.has, number, most, need) - int(drop), 0)
        return next((i + 1 for i in range(most - 1, -1, -1) if self.has(number, i)), 0)


def _leading(has: Has, number: int, first: int, most: int) -> int:
    """The first block from `first` on that is not there."""
    at = first
    while at < most and has(number, at):
        at += 1
    return at


def _tail(has: Has, number: int, most: int, need: int) -> int:
    """The end of the last `need` blocks in a row; or of those that a prompt begins with."""
    row = 0
    for i in range(most - 1, -1, -1):
        row = row + 1 if has(number, i) else 0
        if row >= need:
            return i + row
    return row


def dense(block_tokens: int) -> CacheRule:
    """Full attention, and SGLang's radix tree (its usual block is one token)."""
    return CacheRule(block_tokens)
