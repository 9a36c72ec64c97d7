"""The oracle asks the rule of the model's cache: windows are found from the third request on."""

from __future__ import annotations

import pytest

from aot.analysis.cache import reach
from aot.configs.caches.rule import CacheRule, Layers
from aot.workloads.traces.blocks import TokenBuilder

BLOCK = 16
WINDOW = (Layers("full"), Layers("window", 32))


def found(rule: CacheRule, capacity: int | None, *tails: int) -> int:
    """Blocks found over requests that share 20 blocks and end in a tail of their own."""
    builder = TokenBuilder(BLOCK)
    for tail in tails:
        builder.add([*range(20 * BLOCK), *([1_000 + tail] * 20)])
    (only,) = reach.evaluate(builder.build(), BLOCK, ["leaf-lru"], [capacity], rule=rule)
    return only.hit_blocks


@pytest.mark.parametrize(
    ("retention", "expected"),
    [(0, 20), (None, 40), (64, 40)],  # the second and the third request; every 64 tokens: at 320
)
def test_a_window_is_found_as_it_was_kept(retention: int | None, expected: int) -> None:
    assert found(CacheRule(BLOCK, WINDOW, retention), None, 1, 2, 3) == expected


def test_with_room_for_all_a_limit_changes_nothing() -> None:
    rule = CacheRule(BLOCK, WINDOW, 0)
    assert found(rule, 1_000, 1, 2, 3) == found(rule, None, 1, 2, 3) == 20


def test_what_does_not_fit_is_not_found() -> None:
    assert found(CacheRule(BLOCK, WINDOW, 0), 5, 1, 2, 3) == 0


def test_full_attention_by_the_rule_is_leaf_lru() -> None:
    dense = CacheRule(BLOCK)
    assert found(dense, 60, 1, 2, 3) == 40
