"""Where the tokens went, against planted causes: an engine with a pool, steps and salts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import pytest

from aot.analysis.cache.losses import Losses, attribute
from aot.analysis.cache.oracle import Sent
from aot.configs.caches.rule import CacheRule, Layers, dense

BLOCK = 4
STATIC = {"a": list(range(100, 110)), "b": list(range(200, 213))}


def prompt(prefix: str, number: int, size: int = 5) -> list[int]:
    return [*STATIC[prefix], *range(1_000_000 + number * 100, 1_000_000 + number * 100 + size)]


def losses(
    order: Sequence[Sent], cached: dict[str, int], before: Sequence[list[int]] = ()
) -> Losses:
    static = {s.id: len(STATIC["a"] if s.prompt[0] < 200 else STATIC["b"]) for s in order}
    found = attribute(order, cached, static, [(ids, None) for ids in before], dense(BLOCK))
    assert found is not None
    return found


def sums(found: Losses) -> int:
    return (
        found.cached + found.first_touch + found.dynamic + found.salts + found.rounding
        + found.sparse + found.concurrency + found.eviction
    )  # fmt: skip


def test_each_cause_is_named_for_itself() -> None:
    one = Sent("1", prompt("a", 1), sent_s=0, ready_s=1)
    other = Sent("2", prompt("a", 2), sent_s=2, ready_s=3)
    found = losses([one, other], {"1": 0, "2": 8})
    # 10 static tokens are new once; the second finds 2 of their blocks, and loses 2 behind them.
    assert (found.first_touch, found.dynamic, found.cached, found.rounding) == (10, 10, 8, 2)
    assert (found.salts, found.concurrency, found.eviction) == (0, 0, 0)
    evicted = losses([one, other], {"1": 0, "2": 0})
    assert evicted.eviction == 8
    at_once = Sent("2", prompt("a", 2), sent_s=0.5, ready_s=3)
    assert losses([one, at_once], {"1": 0, "2": 0}).concurrency == 8
    salted = Sent("2", prompt("a", 2), salt="x", sent_s=2, ready_s=3)
    assert losses([one, salted], {"1": 0, "2": 0}).salts == 10
    warmed = losses([one], {"1": 8}, before=[prompt("a", 9)])
    assert (warmed.first_touch, warmed.dynamic, warmed.rounding) == (0, 5, 2)


def test_what_is_found_while_it_is_being_prefilled_is_no_negative_eviction() -> None:
    """An engine lets blocks be found when it has scheduled them, before their first token."""
    one = Sent("1", prompt("a", 1), sent_s=0, ready_s=5)
    other = Sent("2", prompt("a", 2), sent_s=1, ready_s=6)
    found = losses([one, other], {"1": 0, "2": 8})
    assert (found.concurrency, found.eviction, found.cached) == (0, 0, 8)
    part = losses([one, other], {"1": 0, "2": 4})
    assert (part.concurrency, part.eviction, part.cached) == (4, 0, 4)


def test_a_request_that_failed_left_its_blocks_and_has_no_losses() -> None:
    failed = Sent("1", prompt("a", 1), sent_s=0, ready_s=1)
    other = Sent("2", prompt("a", 2), sent_s=2, ready_s=3)
    found = losses([failed, other], {"2": 8})
    assert found.prompt_tokens == 15
    assert (found.first_touch, found.cached, found.eviction) == (0, 8, 0)


def test_more_than_was_ever_sent_is_found_and_nothing_goes_below_zero() -> None:
    found = losses([Sent("1", prompt("a", 1))], {"1": 99})
    assert (found.cached, found.dynamic, found.first_touch) == (15, 0, 0)
    assert sums(found) == 15


class Engine:
    """A pool of blocks, least recently used first out; a prompt's blocks can be found when its step
    begins, and steps begin every `step_s`. Says why it did not find what it could have."""

    def __init__(self, blocks: int, step_s: float) -> None:
        self.blocks, self.step_s = blocks, step_s
        self.pool: OrderedDict[tuple[object, ...], float] = OrderedDict()
        self.first: dict[tuple[object, ...], float] = {}
        """When a block was computed for the first time."""

    def send(self, sent: Sent) -> tuple[int, int, int]:
        """Cached tokens; tokens lost to requests of the same step; and to eviction."""
        at = (sent.sent_s // self.step_s + 1) * self.step_s
        keys = [
            (sent.salt, *sent.prompt[: (n + 1) * BLOCK])
            for n in range((len(sent.prompt) - 1) // BLOCK)
        ]
        cached = next((n for n, k in enumerate(keys) if self.pool.get(k, at) >= at), len(keys))
        seen = [self.first[k] for k in keys[cached:] if k in self.first]
        together = sum(since >= at for since in seen)
        for key in reversed(keys):  # deepest first, so that leaves go before parents
            self.pool[key] = min(self.pool.pop(key, at), at)
            self.first.setdefault(key, at)
        while len(self.pool) > self.blocks:
            self.pool.popitem(last=False)
        return cached * BLOCK, together * BLOCK, (len(seen) - together) * BLOCK


@pytest.mark.parametrize(("blocks", "step_s"), [(10_000, 0.5), (12, 0.5), (10_000, 3.0), (8, 2.0)])
def test_planted_causes_are_found_again(blocks: int, step_s: float) -> None:
    rng = np.random.default_rng(blocks)
    engine, order, cached, now = Engine(blocks, step_s), [], {}, 0.0
    together = evicted = 0
    for number in range(300):
        now += float(rng.exponential(1.0))
        salt = str(rng.choice(["x", "y"])) if number % 3 == 0 else None
        ids = prompt(str(rng.choice(["a", "b"])), number, int(rng.integers(3, 9)))
        # The first token comes some time after the step that has computed it began.
        ready = (now // step_s + 1) * step_s + 0.01
        sent = Sent(f"{number}", ids, salt, sent_s=now, ready_s=ready)
        order.append(sent)
        found, same_step, gone = engine.send(sent)
        if rng.random() < 0.9:  # the others failed: nobody knows what they found
            cached[sent.id] = found
            together, evicted = together + same_step, evicted + gone
    found_losses = losses(order, cached)
    assert min(found_losses.as_json().values()) >= 0
    assert sums(found_losses) == found_losses.prompt_tokens
    assert found_losses.cached == sum(cached.values())
    assert (found_losses.concurrency, found_losses.eviction) == (together, evicted)


def test_what_a_window_does_not_keep_is_a_cause_of_its_own() -> None:
    """The second request with a beginning tells where it parts, the third one finds it."""
    rule = CacheRule(BLOCK, (Layers("full"), Layers("window", 2 * BLOCK)))
    static = list(range(100, 100 + 6 * BLOCK))
    order = [Sent(str(n), [*static, *range(1000 * n, 1000 * n + 3 * BLOCK)]) for n in range(1, 4)]
    found = attribute(
        order, {"1": 0, "2": 0, "3": 6 * BLOCK}, {s.id: len(static) for s in order}, [], rule
    )
    assert found is not None
    assert found.sparse == 6 * BLOCK
    assert found.eviction == found.concurrency == found.rounding == 0
    assert sums(found) == found.prompt_tokens == 27 * BLOCK
