"""What came into a cache since a moment, by the beginnings of its prompts."""

from __future__ import annotations

import msgpack

from aot.serving.cache.arrivals import Arrivals
from aot.serving.client import kv_events
from aot.serving.client.kv_events import Batch, Cleared, Event, Removed, Stored


def arrived(*events: Event) -> Arrivals:
    arrivals = Arrivals()
    arrivals.take(Batch(0, events))
    return arrivals


def test_blocks_count_for_the_beginning_of_their_prompt() -> None:
    arrivals = arrived(
        Stored((1, 2), 16, None, tuple(range(32))),
        Stored((3,), 16, 2, tuple(range(16))),
        Stored((10, 11, 12, 13), 16, None, tuple(range(100, 164))),
        Stored((4,), 16, 2),
    )
    most = arrivals.largest(but=set())
    assert most is not None
    assert (most.tokens, most.share, most.first_tokens[:2]) == (64, 0.5, (0, 1))
    other = arrivals.largest(but={1})
    assert other is not None
    assert (other.tokens, other.share, other.first_tokens[0]) == (64, 0.5, 100)
    assert arrivals.largest(but={1, 10}) is None


def test_from_a_moment_on() -> None:
    arrivals = arrived(Stored((1, 2), 16, None, (7, 8)))
    arrivals.reset()
    assert arrivals.total_tokens == 0
    arrivals.take(Batch(1, (Stored((3,), 16, 2),)))  # its beginning was there before
    most = arrivals.largest(but=set())
    assert most is not None
    assert (most.tokens, most.first_tokens) == (16, (7, 8))


def test_memory_is_that_of_the_blocks_in_the_cache() -> None:
    arrivals = arrived(*(Stored((n,), 16, n - 1 or None, (n,)) for n in range(1, 100)))
    arrivals.take(Batch(1, (Removed(tuple(range(2, 100))),)))
    arrivals.take(Batch(2, (Cleared(),)))
    arrivals.reset()
    assert (arrivals._root_of, arrivals._first) == ({}, {})


def test_beginnings_without_end_are_counted_in_bounded_memory() -> None:
    arrivals = arrived(Stored((1,), 16, None, (1,)), Stored((2,), 16, 1), Stored((3,), 16, 2))
    for number in range(10, 40_000):
        stored = Stored((number,), 16, None, (number,))
        arrivals.take(Batch(number, (stored, Removed((number,)))))
    assert len(arrivals._tokens) <= 10_001
    assert len(arrivals._first) <= 20_001
    assert arrivals.total_tokens == 16 * (3 + 39_990)
    most = arrivals.largest(but=set())
    assert most is not None
    assert (most.tokens, most.first_tokens) == (48, (1,))


def test_events_in_both_shapes_tell_parents_and_tokens() -> None:
    rows = (
        ["BlockStored", [5], 4, [1, 2], 2],
        {"type": "BlockStored", "block_hashes": [5], "parent_block_hash": 4, "token_ids": [1, 2],
         "block_size": 2},
        {"type": "BlockStored", "block_hashes": [5], "parent_block_hash": None, "token_ids": None,
         "block_size": 2},
    )  # fmt: skip
    data = msgpack.packb([0.0, list(rows), None])
    events = kv_events.decode(bytes(8), data).events
    assert events == (Stored((5,), 2, 4, (1, 2)),) * 2 + (Stored((5,), 2, None, ()),)
