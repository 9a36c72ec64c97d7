"""What another order of the same prompts would be worth, in an infinite cache.

The prompts of the trace are in parts (system parts, passages, history, ...). Each layout puts the
same parts into another order; the difference in tokens found is what the logged order costs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aot.analysis.cache import reach
from aot.configs.kernel.chains import chain
from aot.workloads.traces.blocks import BlockTrace

Part = tuple[str, int, int]
"""(kind, name, tokens)"""
Prompt = Sequence[Part]
MOVABLE = "passages_ids"
FIXED = "sys_prompt"
DYNAMIC_SHARE = 0.5
"""A place in the system prompt is dynamic when its commonest part is in less than this share of the
requests."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Tokens found with one order of the parts. `gain_tokens`: more than as logged."""

    name: str
    what: str
    hit_tokens: int
    total_tokens: int
    gain_tokens: int

    reachable: bool = True
    """False: a bound that no order of the parts reaches."""

    @property
    def hit_ratio(self) -> float:
        return self.hit_tokens / self.total_tokens if self.total_tokens else 0.0

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"hit_ratio": self.hit_ratio}


def of_trace(name: str, what: str, trace: BlockTrace, logged: Layout | None) -> Layout:
    """A version of the requests as texts, measured in an infinite cache."""
    (infinite,) = reach.evaluate(trace, trace.block_tokens, ["lru"], [None])
    gain = infinite.hit_tokens - (logged.hit_tokens if logged else infinite.hit_tokens)
    return Layout(name, what, infinite.hit_tokens, infinite.total_tokens, gain)


def price(prompts: Sequence[Prompt], block_tokens: int = 1) -> list[Layout]:
    """The trace under every layout, as logged first; the last is a bound that no order reaches."""
    popularity = Counter(name for p in prompts for kind, name, _ in p if kind == MOVABLE)
    moving = _dynamic_places(prompts)
    last = max(moving, default=None)

    def by_use(part: Part) -> tuple[int, int]:
        return -popularity[part[1]], part[1]

    orders: list[tuple[str, str, Callable[[Prompt], Prompt]]] = [
        ("as logged", "the order that the service sends", lambda p: p),
        ("canary", "the same order, measured again: must change nothing", lambda p: list(p)),
        (
            "passages in canonical order",
            "passages sorted by their id, all else as logged",
            lambda p: _passages(p, lambda part: part[1]),
        ),
        (
            "tail behind passages",
            f"system part {_place(last)} moved behind the passages",
            lambda p: _behind(p, set() if last is None else {last}),
        ),
        (
            "tail behind passages by popularity",
            "and the passages ordered by how often they are used",
            lambda p: _passages(_behind(p, set() if last is None else {last}), by_use),
        ),
        (
            "all that changes behind passages by popularity",
            f"system parts {', '.join(map(_place, sorted(moving))) or 'none'} moved too",
            lambda p: _passages(_behind(p, moving), by_use),
        ),
    ]
    layouts: list[Layout] = []
    total = sum(tokens for p in prompts for _, _, tokens in p)
    for name, what, order in orders:
        hits = _hit_tokens([order(p) for p in prompts], block_tokens)
        layouts.append(
            Layout(name, what, hits, total, hits - (layouts[0].hit_tokens if layouts else hits))
        )
    bound = _anywhere(prompts)
    what = "every part found wherever it stands: a bound, which prefix caching cannot reach"
    gain = bound - layouts[0].hit_tokens
    layouts.append(Layout("position-independent", what, bound, total, gain, reachable=False))
    return layouts


def _place(number: int | None) -> str:
    return "none" if number is None else str(number + 1)


def _dynamic_places(prompts: Sequence[Prompt]) -> set[int]:
    """Places in the system prompt whose part changes from request to request."""
    uses: dict[int, Counter[int]] = {}
    for prompt in prompts:
        parts = [name for kind, name, _ in prompt if kind == FIXED]
        for place, name in enumerate(parts):
            uses.setdefault(place, Counter())[name] += 1
    return {p for p, c in uses.items() if c.most_common(1)[0][1] < DYNAMIC_SHARE * c.total()}


def _behind(prompt: Prompt, places: set[int]) -> Prompt:
    """The system parts at `places` directly behind the passages."""
    system = [part for part in prompt if part[0] == FIXED]
    moved = [part for place, part in enumerate(system) if place in places]
    kept = [part for place, part in enumerate(system) if place not in places]
    passages = [part for part in prompt if part[0] == MOVABLE]
    rest = [part for part in prompt if part[0] not in (FIXED, MOVABLE)]
    return [*kept, *passages, *moved, *rest]


def _passages(prompt: Prompt, key: Callable[[Part], tuple[int, int] | int]) -> Prompt:
    """The passages in another order, in the places where passages stood."""
    ordered = iter(sorted((part for part in prompt if part[0] == MOVABLE), key=key))
    return [next(ordered) if part[0] == MOVABLE else part for part in prompt]


def _hit_tokens(prompts: Sequence[Prompt], block_tokens: int) -> int:
    """Tokens of all prompts that an earlier one began with, in whole blocks."""
    seen: set[int] = set()
    total = 0
    for prompt in prompts:
        shared, unbroken = 0, True
        names = chain(name for _, name, _ in prompt)
        for (_, _, tokens), beginning in zip(prompt, names, strict=True):
            unbroken = unbroken and beginning in seen
            shared += tokens if unbroken else 0
            seen.add(beginning)
        total += shared // block_tokens * block_tokens
    return total


def _anywhere(prompts: Sequence[Prompt]) -> int:
    seen: set[int] = set()
    total = 0
    for prompt in prompts:
        total += sum(tokens for _, name, tokens in prompt if name in seen)
        seen.update(name for _, name, _ in prompt)
    return total
