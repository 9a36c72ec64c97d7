"""The oracle in order of time, against a slow simulation that shares no code with it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from aot.analysis.cache import in_flight, reach, stack_distance
from aot.analysis.cache.in_flight import Timed
from aot.configs.caches.rule import CacheRule
from aot.workloads.logs.traced import Traced
from aot.workloads.requests.request import Served
from aot.workloads.traces.blocks import TokenBuilder
from aot.workloads.traces.in_time import USUAL, Service, in_time

BLOCK = 4


@dataclass
class Turn:
    name: str
    after: str | None
    at_s: float
    think_s: float
    answer_s: float
    prompt: list[int]
    due_s: float | None = None
    found: int = 0


@dataclass
class Sessions:
    """Random sessions whose turns grow, some of which share a beginning."""

    rng: random.Random
    turns: list[Turn] = field(default_factory=list)

    def made(self) -> list[Turn]:
        beginnings = [[self.rng.randrange(50) for _ in range(self.rng.randrange(1, 30))]
                      for _ in range(3)]  # fmt: skip
        for session in range(self.rng.randrange(3, 9)):
            text, before = list(self.rng.choice(beginnings)), None
            at_s = round(self.rng.random() * 20, 3)
            for number in range(self.rng.randrange(1, 6)):
                text = text + [self.rng.randrange(50) for _ in range(self.rng.randrange(1, 12))]
                name = f"{session}.{number}"
                think_s = round(self.rng.random() * 10, 3)
                answer_s = round(self.rng.random() * 5, 3)
                self.turns.append(Turn(name, before, at_s, think_s, answer_s, list(text)))
                before = name
        return self.turns


def slowly(turns: list[Turn], capacity: int) -> int:
    """Found tokens, a turn at a time: whichever is due first, in a list of blocks by last use."""
    answered: dict[str, float] = {}
    left, cache = list(turns), []
    total = 0
    while left:
        for turn in left:
            if turn.after is None:
                turn.due_s = turn.at_s
            elif turn.after in answered:
                turn.due_s = max(turn.at_s, answered[turn.after] + turn.think_s)
        ready = [t for t in left if t.due_s is not None]
        now = min(ready, key=lambda t: (t.due_s, turns.index(t)))
        left.remove(now)
        assert now.due_s is not None
        answered[now.name] = now.due_s + now.answer_s
        blocks = [tuple(now.prompt[:end]) for end in range(BLOCK, len(now.prompt) + 1, BLOCK)]
        hits = 0
        while hits < len(blocks) and blocks[hits] in cache:
            hits += 1
        now.found = min(hits, (len(now.prompt) - 1) // BLOCK) * BLOCK
        total += now.found
        for block in reversed(blocks[:capacity]):
            if block in cache:
                cache.remove(block)
            cache.append(block)
        cache = cache[-capacity:]
    return total


def traced(turns: list[Turn]) -> list[Traced]:
    return [
        Traced(n, at_s=t.at_s, session=t.name, parent=t.after, think_s=t.think_s,
               duration_s=t.answer_s, output_tokens=1)
        for n, t in enumerate(turns)
    ]  # fmt: skip


def test_two_hundred_random_workloads_are_equal_to_the_token() -> None:
    rng = random.Random(7)
    found = 0
    for _ in range(200):
        turns = Sessions(rng).made()
        capacity = rng.choice([3, 8, 15, 40])
        builder = TokenBuilder(BLOCK)
        for row in in_time(traced(turns), None):
            builder.add(turns[row.line].prompt)
        (ours,) = reach.evaluate(builder.build(), BLOCK, ["leaf-lru"], [capacity])
        assert ours.hit_tokens == slowly(turns, capacity)
        found += ours.hit_tokens
    assert found > 10_000


def test_how_long_an_answer_takes() -> None:
    rows = [Traced(0, at_s=0.0, session="a", input_tokens=4000, output_tokens=100),
            Traced(1, at_s=0.0, session="b", parent="a", think_s=2.0)]  # fmt: skip
    assert [r.at_s for r in in_time(rows, Service(5.0, 0, 0))] == [0.0, 7.0]
    assert [r.at_s for r in in_time(rows, None)] == [0.0, 5.0]  # 1 s of prompt, 2 s of output
    assert USUAL.of(rows[0]) == 3.0
    newest_first = [Traced(0, at_s=9.0, session="s"), Traced(1, at_s=1.0, session="s")]
    assert [r.line for r in in_time(newest_first, None)] == [1, 0]
    untimed = [Traced(0, session="a"), Traced(1, at_s=1.0)]
    assert in_time(untimed, None) == untimed


RULE = CacheRule(BLOCK)


def one(at_s: float, duration_s: float, names: str, behind: str = "", output: int = 1) -> Timed:
    return Timed(at_s, duration_s, BLOCK * len(names) + 1, output, names, behind)


def test_what_is_in_flight_is_found_and_held() -> None:
    both = [one(0, 9, "abc"), one(1, 1, "abd")]
    assert in_flight.found_blocks(both, RULE, 20) == [0, 2]
    # Three blocks and a token each: the second one waits for the first, whose blocks stay until
    # they are needed.
    assert in_flight.found_blocks([one(0, 9, "abc"), one(1, 1, "xyz")], RULE, 6) == [0, 0]
    tight = [one(0, 9, "abc"), one(1, 1, "xyz"), one(20, 1, "abc")]
    assert in_flight.found_blocks(tight, RULE, 4) == [0, 0, 0]
    assert in_flight.found_blocks(tight, RULE, 8) == [0, 0, 3]


def test_an_answer_is_found_by_the_turn_after_it() -> None:
    turns = [one(0, 2, "ab", "c", output=BLOCK + 1), one(3, 1, "abcd")]
    assert in_flight.found_blocks(turns, RULE, 20) == [0, 3]
    assert in_flight.found_blocks([one(0, 2, "ab"), one(3, 1, "abcd")], RULE, 20) == [0, 2]


@pytest.mark.parametrize("blocks", [1, 2])
def test_what_does_not_fit_alone_finds_nothing_and_stops_nobody(blocks: int) -> None:
    assert in_flight.found_blocks([one(0, 1, "abc"), one(5, 1, "")], RULE, blocks) == [0, 0]


def test_leaf_lru_at_every_capacity_is_what_each_replay_finds() -> None:
    rng = random.Random(11)
    for _ in range(60):
        turns = Sessions(rng).made()
        builder = TokenBuilder(BLOCK)
        for row in in_time(traced(turns), None):
            builder.add(turns[row.line].prompt)
        trace = builder.build()
        curve = stack_distance.curve(trace, "leaf-lru")
        for capacity in range(1, trace.distinct_blocks + 2):
            (replayed,) = reach.evaluate(trace, BLOCK, ["leaf-lru"], [capacity])
            assert curve.at(capacity)[1] == replayed.hit_tokens
        several = reach.evaluate(trace, BLOCK, ["lru", "leaf-lru"], [1, 2, 3, 5, 8, None])
        alone = [reach.evaluate(trace, BLOCK, [r.policy], [r.capacity_blocks])[0] for r in several]
        assert several == alone


def test_prompts_of_logs_count_in_the_time_of_an_answer() -> None:
    service = Service(0.0, 1.0, 0.0)
    text = ({"role": "user", "content": "abcd" * 5},)
    assert service.of(Traced(1, input_tokens=7, served=Served(9), messages=text)) == 7
    assert service.of(Traced(1, served=Served(9), messages=text)) == 9
    assert service.of(Traced(1, messages=text)) == 5


def test_a_turn_comes_when_all_that_it_waits_for_are_over() -> None:
    """Behind a (over at 1): b until 1 + 4, c until 1 + 2; d waits for both, and thinks for 1 s."""
    rows = [
        Traced(1, at_s=0.0, session="a", duration_s=1.0),
        Traced(2, at_s=0.0, session="b", parent="a", duration_s=4.0),
        Traced(3, at_s=0.0, session="c", parent="a", duration_s=2.0),
        Traced(4, at_s=0.0, session="d", parent="a", duration_s=1.0, think_s=1.0, joins=("b", "c")),
        Traced(5, at_s=5.5, session="e", duration_s=1.0),
    ]
    ordered = in_time(rows, None)
    assert [(r.session, r.at_s) for r in ordered] == [
        ("a", 0.0), ("b", 1.0), ("c", 1.0), ("e", 5.5), ("d", 6.0),
    ]  # fmt: skip
