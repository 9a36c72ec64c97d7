"""How long what nobody uses stays, by the traffic and the capacity."""

from __future__ import annotations

from aot.analysis.cache.oracle import Sent
from aot.analysis.measures.retention import idle_until_evicted


def sent(number: int, at_s: float, *blocks: int, salt: str | None = None) -> Sent:
    """A prompt of blocks of two tokens."""
    return Sent(str(number), [t for b in blocks for t in (b, b)], salt, (), at_s)


def test_a_block_goes_when_as_much_as_the_cache_holds_was_used_since() -> None:
    order = [sent(0, 0, 1, 2), sent(1, 1, 3), sent(2, 5, 1), sent(3, 7, 4, 5)]
    # Three blocks: at 7 s the second one of 0 s (a leaf) goes, and the one of 1 s.
    assert idle_until_evicted(order, 2, 6) == [7.0, 6.0]


def test_what_is_used_again_stays_and_salts_keep_apart() -> None:
    assert idle_until_evicted([sent(n, n, 1, 2) for n in range(9)], 2, 4) == []
    salted = [sent(0, 0, 1, salt="a"), sent(1, 4, 1, salt="b")]
    assert idle_until_evicted(salted, 2, 2) == [4.0]
    assert idle_until_evicted(salted, 2, 4) == []
