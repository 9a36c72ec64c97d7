"""What is decided about warm prefixes, on a server that is played by the test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from support.compiled import BLOCK, prompt

from aot.configs.kernel.errors import CacheStateError
from aot.scripts.prompts import warming
from aot.scripts.prompts.warming import Place
from aot.serving.client.chat import Message, Tools, Usage
from aot.serving.engines.table import engine
from aot.serving.metrics.counters import CacheFacts


@dataclass
class Played:
    """Renders the token ids it is told to; remembers who was filled."""

    renders: dict[str, list[int]]
    cached: int | None = None
    filled: list[str] = field(default_factory=list)
    base_url: str = "http://played"
    model: str = "m"

    def tokenize(self, messages: list[Message], tools: Tools = ()) -> list[int] | None:
        return self.renders.get(messages[0]["content"])

    def chat(
        self, messages: list[Message], n: int, salt: Any = None, tools: Tools = (), prefix: Any = ""
    ) -> Usage:
        self.filled.append(messages[0]["content"])
        return Usage(12, self.cached, n)


def where(server: Played, capacity: int | None = None, **more: Any) -> Place:
    values: dict[str, Any] = {"enabled": True, "block_tokens": BLOCK} | more
    facts = CacheFacts(capacity_tokens=capacity, **values)
    return Place(server, engine("vllm"), facts)  # type: ignore[arg-type]


A, B, C = prompt("a", [*range(10)]), prompt("b", [*range(8), 90, 91, 92]), prompt("c", [50] * 9)


def test_a_shared_beginning_is_counted_once() -> None:
    # a: 8 in blocks; b shares 8 of its 8; c: 8. The longest tail: 3 rounding and 2 dynamic.
    assert warming.needed_tokens([A, B, C]) == 8 + 0 + 8 + 5
    salted = prompt("s", [*range(10)], salt="x")
    assert warming.needed_tokens([A, salted]) == 8 + 8 + 4  # another cache


def test_those_that_share_are_filled_next_to_each_other() -> None:
    assert [p.id for p in warming.in_order([C, B, A])] == ["a", "b", "c"]


def test_what_does_not_fit_is_named_and_not_kept(capfd: pytest.CaptureFixture[str]) -> None:
    assert warming.fitting([A, C, B], where(Played({}), capacity=14)) == [A, B]
    assert "no room for c: not kept warm" in " ".join(capfd.readouterr().err.split())
    with pytest.raises(CacheStateError, match="its cache is too small for any of them"):
        warming.fitting([A], where(Played({}), capacity=4))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (where(Played({}), enabled=False), "prefix caching is off"),
        (where(Played({}), block_tokens=16), "compiled for blocks of 4 tokens, and http"),
        (where(Played({"a": [0, 1, 2, 77]})), "template mismatch: .* from token 3 on"),
    ],
)  # fmt: skip
def test_what_can_be_known_beforehand_is_refused(place: Place, words: str) -> None:
    with pytest.raises(CacheStateError, match=words):
        warming.check([A], place)


def test_a_server_that_renders_the_same_is_accepted(capfd: pytest.CaptureFixture[str]) -> None:
    warming.check([A], where(Played({"a": [*range(10), 5, 6]}), capacity=8))
    assert "the prompts need 12 tokens of cache and it has 8" in capfd.readouterr().err


def test_all_are_filled_then_verified() -> None:
    server = Played({}, cached=8)
    warmed = warming.warm_all([C, A], where(server, capacity=1000), lambda _: None)
    assert sorted(server.filled) == ["a", "a", "c", "c"]
    assert [(w.id, w.expected_tokens, w.verified) for w in warmed] == [
        ("a", 8, True),
        ("c", 8, True),
    ]


def test_a_round_says_who_went_cold() -> None:
    assert "all warm, next in 5 s" in warming.watch_blind([A, C], where(Played({}, cached=8)), 5)
    line = warming.watch_blind([A, C], where(Played({}, cached=4)), None)
    assert line.endswith("cold again: a, c")


@pytest.mark.parametrize(
    ("before", "after", "passed", "capacity", "wait"),
    [
        (0, 1000, 10, 2000, 10.0),  # 100 tokens a second fill 2,000 in 20 s
        (0, 0, 10, 2000, warming.LONGEST_IDLE_S),  # no traffic
        (None, 5, 10, 2000, warming.LONGEST_IDLE_S),
        (0, 10**6, 1, 2000, warming.SHORTEST_IDLE_S),
        (500, 100, 10, 2000, warming.LONGEST_IDLE_S),  # the engine was restarted
    ],
)
def test_prefixes_are_touched_before_traffic_could_displace_them(
    before: float | None, after: float, passed: float, capacity: int, wait: float
) -> None:
    place = where(Played({}), capacity=capacity)
    assert warming.idle_s(before, after, passed, place) == pytest.approx(wait)


def test_blocks_are_named_as_in_events() -> None:
    assert warming.chain(A) == [0, 1]
    with pytest.raises(CacheStateError, match="compiled without block hashes"):
        warming.chain(A.model_copy(update={"block_hashes": None}))
