"""SGLang's tree: what is found, and which leaf is given up; held against its own class by
tests/engine/test_cache_rules.py."""

from __future__ import annotations

import pytest

from aot.configs.caches.radix import RadixCache


def cached(cache: RadixCache, *prompts: str) -> list[int]:
    """Blocks that each prompt finds; a letter is a block."""
    found = []
    for prompt in prompts:
        held = cache.start(prompt, len(prompt))
        found.append(held.found)
        cache.finish(held)
    return found


def test_the_leaf_that_was_unused_for_longest_goes_whole_and_what_is_shared_stays() -> None:
    cache = RadixCache(6)
    assert cached(cache, "abcd", "abxy") == [0, 2]
    assert cached(cache, "q") == [0]  # "cd" goes
    assert cached(cache, "abxy", "abcd") == [4, 2]


def test_what_is_held_stays_until_it_is_let_go() -> None:
    cache = RadixCache(4)
    held = cache.start("abc", 3)
    with pytest.raises(ValueError, match="no block left"):
        cache.start("xy", 2)
    assert cached(cache, "a") == [0]  # what is being computed is not found
    cache.finish(held)
    assert cached(cache, "abc", "xy", "xy") == [3, 0, 2]


def test_what_two_computed_at_once_is_kept_once() -> None:
    cache = RadixCache(6)
    first, second = cache.start("abc", 3), cache.start("abc", 3)
    cache.finish(first)
    cache.finish(second)
    assert cached(cache, "xyz", "abc") == [0, 3]
