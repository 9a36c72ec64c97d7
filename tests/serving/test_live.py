"""The prefix tree of live traffic: where prompts part, to the token, and what is stored again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest

from aot.serving.client.kv_events import Batch, Cleared, Removed, Stored
from aot.serving.live import branches as branches_module
from aot.serving.live.branches import Branches
from aot.serving.live.places import Place, Places
from aot.serving.live.repeats import common, shared, windows

BLOCK = 16
Prompt = list[int]


@dataclass
class Engine:
    """A cache without an end that tells of its blocks as vLLM does; a second passes per request."""

    block: int = BLOCK
    now_s: float = 0.0
    sequence: int = 0
    lost_tokens: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.branches = Branches(lambda: self.now_s)
        self.places = Places(self.branches.above, self.branches.below, self.block)
        self.known: set[int] = set()

    def names(self, tokens: Prompt) -> list[int]:
        name, names = 0, []
        for start in range(0, len(tokens) - self.block + 1, self.block):
            name = hash((name, tuple(tokens[start : start + self.block]))) & ((1 << 63) - 1)
            names.append(name)
        return names

    def send(self, tokens: Prompt, static: int | None = None, app: str = "") -> None:
        """`static`: how many tokens of it would be found, were it not for its flaw."""
        names = self.names(tokens)
        found = next((n for n, name in enumerate(names) if name not in self.known), len(names))
        if static is not None:
            lost = static // self.block * self.block - found * self.block
            self.lost_tokens[app] = self.lost_tokens.get(app, 0) + lost
        self.known.update(names)
        if names[found:]:
            parent = names[found - 1] if found else None
            ids = tokens[found * self.block : len(names) * self.block]
            self.tell(Stored(tuple(names[found:]), self.block, parent, tuple(ids)))
        self.now_s += 5.0
        for branch in self.branches.closed():
            self.places.add(branch)

    def tell(self, *events: Stored | Removed | Cleared) -> None:
        self.branches.take(Batch(self.sequence, events))
        self.sequence += 1

    def found(self) -> list[Place]:
        return self.places.found()


def planted(rng: random.Random) -> Iterator[tuple[str, Callable[[], tuple[Prompt, int | None]]]]:
    """Applications: by name, what makes the next prompt, and how much of it is static."""

    def words(count: int) -> Prompt:
        return [rng.randrange(1_000, 40_000) for _ in range(count)]

    begin, clocked, named, clean = words(37), words(1_900), words(900), words(1_200)
    tools, head = [words(150) for _ in range(6)], words(20)
    pool, question = [words(120) for _ in range(50)], words(300)
    yield "clock", lambda: ([*begin, *words(12), *clocked, *words(40)], 37 + 1_900)
    yield "id", lambda: ([7, 7, 7, *words(8), *named, *words(30)], 3 + 900)
    yield (
        "tools",
        lambda: (
            [*head, *(t for tool in rng.sample(tools, 6) for t in tool), *words(25)],
            20 + 900,
        ),
    )
    yield "clean", lambda: ([*clean, *words(50)], None)
    yield (
        "passages",
        lambda: (
            [*question, *words(30), *(t for p in rng.sample(pool, 5) for t in p), *words(20)],
            None,
        ),
    )


@pytest.mark.parametrize("block", [1, 16, 32])
def test_each_place_is_found_to_the_token_and_no_other(block: int) -> None:
    rng = random.Random(1)
    engine = Engine(block)
    apps = list(planted(rng))
    for _ in range(60):
        for name, make in apps:
            tokens, static = make()
            engine.send(tokens, static, name)
    found = {place.at: place for place in engine.found()}
    assert sorted(found) == [3, 20, 37]
    truth = engine.lost_tokens
    for at, app in ((37, "clock"), (3, "id"), (20, "tools")):
        first = 1_900 if app == "clock" else 900  # the first request of each has lost nothing
        assert found[at].tokens == pytest.approx(truth[app] - first, rel=0.05)
    assert found[37].times == found[3].times == 59
    assert found[20].reordered > 0.9 * found[20].times > 0 == found[37].reordered


def test_what_another_salt_keeps_apart_is_told_as_that() -> None:
    rng = random.Random(2)
    static = [rng.randrange(40_000) for _ in range(640)]
    engine = Engine()
    for salt in range(5):  # other names for the same tokens
        names = [n + salt + 1 for n in engine.names(static)]
        engine.tell(Stored(tuple(names), BLOCK, None, tuple(static)))
        engine.now_s += 5.0
        for branch in engine.branches.closed():
            engine.places.add(branch)
    (place,) = engine.found()
    assert (place.times, place.apart, place.tokens) == (4, 4, 4 * 640)


def test_what_was_evicted_and_comes_again_is_no_parting() -> None:
    engine = Engine()
    tokens = list(range(1_000, 1_320))
    engine.send(tokens)
    names = engine.names(tokens)
    engine.tell(Removed(tuple(names)))
    assert engine.branches.resident_blocks == 0
    engine.tell(Stored(tuple(names), BLOCK, None, tuple(tokens)))
    assert engine.branches.again_tokens == 320
    assert engine.branches.resident_blocks == 20
    assert engine.found() == []


def test_gaps_restarts_and_unknown_beginnings_are_counted() -> None:
    engine = Engine()
    engine.send(list(range(64)))
    engine.sequence += 3
    engine.tell(Stored((991,), BLOCK, 990, tuple(range(16))))
    assert (engine.branches.lost_messages, engine.branches.unrooted) == (3, 1)
    engine.sequence = 0
    engine.tell(Cleared())
    assert engine.branches.restarts == 1
    assert engine.branches.resident_blocks == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches_module, "MOST_BLOCKS", 100)
    engine = Engine()
    for number in range(40):
        engine.send([number, *range(159)])
    assert len(engine.branches._blocks) <= 100


def test_an_answer_that_grows_is_of_its_request() -> None:
    engine = Engine()
    tokens = list(range(5_000, 5_096))
    names = engine.names(tokens)
    engine.tell(Stored(tuple(names[:4]), BLOCK, None, tuple(tokens[:64])))
    engine.now_s += 0.5
    engine.tell(Stored((names[4],), BLOCK, names[3], tuple(tokens[64:80])))
    assert engine.branches.closed() == []
    engine.now_s += 5.0
    (branch,) = engine.branches.closed()
    assert list(branch.tokens) == tokens[:80]


def test_runs_that_two_have_in_common_are_counted_to_the_token() -> None:
    rng = np.random.default_rng(1)
    one, other = (rng.integers(0, 30_000, 400, dtype=np.int32) for _ in range(2))
    mine = np.concatenate([other[:10], one[:100], other[20:50], one[150:390]])
    assert shared(windows(mine), windows(one)) == 340
    assert shared(windows(mine[:10]), windows(one)) == 0
    assert common(mine, other) == 10
    assert common([], [1]) == 0
