"""Cache policies against slow, obvious versions of them, and against published traces."""

from __future__ import annotations

import gzip
import itertools
import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from aot.analysis.cache import layouts, policies, reach, stack_distance
from aot.configs.kernel.errors import UsageError
from aot.workloads.traces.blocks import BlockTrace, Builder, TokenBuilder, regroup

TRACES = Path(__file__).parents[3] / "shared" / "traces"
Prompts = list[list[int]]


def trace(prompts: Prompts, block_tokens: int = 4, short: int = 0) -> BlockTrace:
    made = Builder(block_tokens)
    for blocks in prompts:
        made.add(blocks, len(blocks) * block_tokens - short)
    return made.build()


def made_up(seed: int, count: int = 120) -> Prompts:
    """Prompts as paths in a tree: equal names mean equal beginnings."""
    rng = random.Random(seed)
    names: dict[tuple[int, ...], int] = {}
    found = []
    for _ in range(count):
        path = tuple(rng.choice((0, 0, 0, 1, 2)) for _ in range(rng.randint(1, 7)))
        found.append([names.setdefault(path[:n], len(names)) for n in range(1, len(path) + 1)])
    return found


def slow_lru(prompts: Prompts, capacity: int) -> list[int]:
    """A list, most recent last."""
    cache: list[int] = []
    found = []
    for blocks in prompts:
        found.append(len(list(itertools.takewhile(lambda b: b in cache, blocks))))
        for block in blocks:
            if block in cache:
                cache.remove(block)
            cache.append(block)
            del cache[:-capacity]
    return found


def best_of_all(prompts: Prompts, capacity: int, lasts: Sequence[bool] = ()) -> int:
    """Every choice of what to keep after each request, tried. `lasts`: whose last block is computed
    anyway."""
    states = {frozenset(): 0}
    for number, blocks in enumerate(prompts):
        after: dict[frozenset[int], int] = {}
        most = len(blocks) - (number < len(lasts) and lasts[number])
        for cache, hits in states.items():
            found = min(most, len(list(itertools.takewhile(lambda b, c=cache: b in c, blocks))))
            everything = cache | set(blocks)
            for size in range(min(capacity, len(everything)) + 1):
                for kept in itertools.combinations(sorted(everything), size):
                    state = frozenset(kept)
                    after[state] = max(after.get(state, 0), hits + found)
        states = after
    return max(states.values())


@pytest.mark.parametrize("seed", range(6))
def test_lru_is_the_obvious_one_and_its_curve_says_so_at_every_capacity(seed: int) -> None:
    prompts = made_up(seed)
    made = trace(prompts, short=1)
    curve = stack_distance.curve(made)
    for capacity in (*range(1, 40), 200):
        leading = list(policies.lru(made, capacity))
        assert leading == slow_lru(prompts, capacity)
        tokens = sum(made.hit_tokens(i, k) for i, k in enumerate(leading))
        assert curve.at(capacity) == (sum(leading), tokens)


@pytest.mark.parametrize("seed", range(6))
def test_the_curve_of_leaf_lru_where_blocks_stand_for_themselves_only(seed: int) -> None:
    """Names that are not chained, as some published traces have them."""
    rng = random.Random(seed)
    made = trace([rng.sample(range(12), rng.randint(1, 7)) for _ in range(200)])
    curve = stack_distance.curve(made, "leaf-lru")
    for capacity in range(7, 14):
        assert curve.at(capacity)[0] == sum(policies.leaf_lru(made, capacity))


def test_blocks_twice_in_a_prompt_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of names that are not chained: one pass would take them for used before."""
    made = trace([[1, 2, 1], [1, 2, 1], [3], [1, 2, 1]])
    assert made.has_repeats
    assert not trace(made_up(1)).has_repeats
    with pytest.raises(UsageError, match="a block twice"):
        stack_distance.curve(made, "leaf-lru")
    several = reach.evaluate(made, 4, ["lru", "leaf-lru"], [2, 3, 4])
    alone = [reach.evaluate(made, 4, [r.policy], [r.capacity_blocks])[0] for r in several]
    assert several == alone


def test_full_blocks_seen_in_finer_ones_lose_no_hit() -> None:
    """A prompt of 24 tokens with one full block of 16: two of 8 are found, one is computed."""
    made = Builder(16, full_only=True)
    for _ in range(3):
        made.add(["a"], 24)
    names = ["lru", "leaf-lru", "opt", "fifo"]
    found = reach.evaluate(made.build(), 8, names, [4, 5, None])
    assert {r.hit_tokens for r in found} == {32}


def test_a_large_trace_is_replayed_with_the_same_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass for all capacities takes memory for every reference."""
    made, names, capacities = trace(made_up(3)), ["lru", "leaf-lru", "opt"], [2, 5, 9, None]
    at_once = reach.evaluate(made, 4, names, capacities)
    monkeypatch.setattr(reach, "MOST_AT_ONCE", 0)
    monkeypatch.delattr(stack_distance, "curve")
    assert reach.evaluate(made, 4, names, capacities) == at_once


@pytest.mark.parametrize("seed", range(8))
def test_the_optimum_is_the_best_of_all_choices(seed: int) -> None:
    prompts = [blocks[:3] for blocks in made_up(seed, 9)]
    for capacity in (1, 2, 3):
        made = trace(prompts)
        assert sum(policies.opt(made, capacity)) == best_of_all(prompts, capacity)


@pytest.mark.parametrize("seed", range(12))
def test_the_optimum_keeps_no_block_for_a_prompt_that_ends_with_it(seed: int) -> None:
    """Of texts: the last token is computed, and with it the block that it is in."""
    rng = random.Random(seed)
    prompts = [blocks[:3] for blocks in made_up(seed, 9)]
    whole = [rng.random() < 0.7 for _ in prompts]
    builder = Builder(4, full_only=True)
    for blocks, ends in zip(prompts, whole, strict=True):
        builder.add(blocks, 4 * len(blocks) + (not ends))
    for capacity in (1, 2, 3):
        (found,) = reach.evaluate(builder.build(), 4, ["opt"], [capacity])
        assert found.hit_blocks == best_of_all(prompts, capacity, whole)


@pytest.mark.parametrize("seed", range(4))
def test_no_policy_beats_the_optimum_and_none_is_short_of_room_for_all(seed: int) -> None:
    made = trace(made_up(seed, 300))
    endless = sum(policies.infinite(made))
    for capacity in (2, 5, 11, 24):
        best = sum(policies.opt(made, capacity))
        for name in ("lru", "leaf-lru", "fifo", "lfu"):
            assert sum(policies.POLICIES[name](made, capacity)) <= best <= endless
    for name in policies.POLICIES:
        assert sum(policies.POLICIES[name](made, made.distinct_blocks)) == endless


def test_each_policy_evicts_by_its_own_rule() -> None:
    # a is used most, b longest ago, c came first of those that are left.
    prompts = [[1], [1], [2], [3], [1], [4], [1], [2], [3]]
    hits = {n: list(policies.POLICIES[n](trace(prompts), 3)) for n in policies.POLICIES}
    assert hits["lru"] == [0, 1, 0, 0, 1, 0, 1, 0, 0]
    assert hits["fifo"] == [0, 1, 0, 0, 1, 0, 0, 0, 0]
    assert hits["lfu"] == [0, 1, 0, 0, 1, 0, 1, 0, 0]
    assert hits["opt"] == [0, 1, 0, 0, 1, 0, 1, 1, 1]


def test_leaves_go_before_their_parents_and_long_prompts_keep_their_front() -> None:
    prompts = [[1, 2, 3], [4], [1, 2, 3]]
    assert list(policies.leaf_lru(trace(prompts), 3)) == [0, 0, 2]
    assert list(policies.lru(trace(prompts), 3)) == [0, 0, 0]
    long = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]
    assert list(policies.leaf_lru(trace(long), 3)) == [0, 3]
    assert list(policies.lru(trace(long), 3)) == [0, 0]


def test_a_partial_last_block_counts_its_tokens_only() -> None:
    made = trace([[1, 2], [1, 2]], block_tokens=10, short=7)
    (found,) = reach.evaluate(made, 10, ["lru"], [None])
    assert (found.hit_blocks, found.hit_tokens) == (2, 13)
    assert (found.total_blocks, found.total_tokens) == (4, 26)


def test_an_engine_computes_the_last_token_and_caches_whole_blocks_only() -> None:
    made = TokenBuilder(4)
    for ids in ([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8, 9]):
        made.add(ids)
    found = {r.capacity_blocks: r for r in reach.evaluate(made.build(), 4, ["leaf-lru"], [2, None])}
    assert {r.hit_tokens for r in found.values()} == {4 + 8}
    assert stack_distance.curve(made.build()).at(2) == (3, 12)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_other_block_sizes_find_the_same_tokens_up_to_rounding(size: int) -> None:
    rng = random.Random(3)
    texts = []
    for _ in range(60):
        shared = rng.choice(([7] * 9, [8] * 22, [9] * 13))
        texts.append([*shared, *(rng.randrange(10**9) for _ in range(rng.randint(1, 9)))])
    named, exact = Builder(4), Builder(size)
    for ids in texts:
        named.add([tuple(ids[: n + 4]) for n in range(0, len(ids), 4)], len(ids))
        exact.add([tuple(ids[: n + size]) for n in range(0, len(ids), size)], len(ids))
    (endless,) = reach.evaluate(named.build(), size, ["lru"], [None])
    finer = regroup(named.build(), size)
    (again,) = reach.evaluate(finer, size, ["lru"], [None])
    assert (endless.hit_tokens, endless.total_blocks) == (again.hit_tokens, again.total_blocks)
    (truth,) = reach.evaluate(exact.build(), size, ["lru"], [None])
    assert endless.total_blocks == truth.total_blocks
    # Names of larger blocks do not tell where inside of one two prompts part.
    assert endless.hit_tokens <= truth.hit_tokens if size < 4 else endless == truth


def test_block_sizes_that_cannot_be_told_are_refused() -> None:
    with pytest.raises(UsageError, match="blocks of 6 tokens cannot be told from blocks of 4"):
        regroup(trace([[1, 2]]), 6)


def test_gaps_add_up() -> None:
    made = trace(made_up(1, 300))
    found = reach.evaluate(made, 4, ["leaf-lru", "opt"], [3, None])
    (gap,) = reach.gaps(found)
    lru, endless = found[0].hit_tokens, found[1].hit_tokens
    assert gap.policy_tokens > 0
    assert gap.capacity_tokens > 0
    assert lru + gap.policy_tokens + gap.capacity_tokens == endless


def test_layouts_price_the_order_of_parts() -> None:
    """A part that changes stands before passages that many requests share."""

    def prompt(n: int) -> list[layouts.Part]:
        passages = [("passages_ids", p, 50) for p in ((1, 2) if n % 2 else (2, 1))]
        return [
            ("sys_prompt", 100, 30), ("sys_prompt", 1000 + n, 10), *passages,
            ("user_input", 5000 + n, 5),
        ]  # fmt: skip

    found = {x.name: x for x in layouts.price([prompt(n) for n in range(10)])}
    assert found["as logged"].hit_tokens == 9 * 30
    assert found["canary"].gain_tokens == 0
    assert found["passages in canonical order"].gain_tokens == 0
    assert found["tail behind passages"].hit_tokens == 30 + 8 * 130
    assert found["tail behind passages by popularity"].hit_tokens == 9 * 130
    assert found["position-independent"].hit_tokens == 9 * 130
    whole = {x.name: x for x in layouts.price([prompt(n) for n in range(10)], block_tokens=64)}
    assert whole["tail behind passages by popularity"].hit_tokens == 9 * 128


@pytest.mark.skipif(not TRACES.is_dir(), reason="the public traces are not beside the checkout")
def test_a_published_trace_block_by_block() -> None:
    """Mooncake's conversation trace; each count was found by kvcache-simulator 0.1.3, too."""
    made = Builder(512)
    with gzip.open(TRACES / "mooncake_conversation.jsonl.gz", "rt") as handle:
        for line in handle:
            row = json.loads(line)
            made.add(row["hash_ids"], row["input_length"])
    found = {
        (r.policy, r.capacity_blocks): r.hit_tokens
        for r in reach.evaluate(
            made.build(), 512, ["leaf-lru", "fifo", "opt"], [1000, 5859, 20000, None]
        )
    }
    assert found == {
        ("leaf-lru", 1000): 6_575_459, ("leaf-lru", 5859): 20_087_299,
        ("leaf-lru", 20000): 42_493_406, ("leaf-lru", None): 54_098_411,
        ("fifo", 1000): 6_403_037, ("fifo", 5859): 18_422_047,
        ("fifo", 20000): 38_044_321, ("fifo", None): 54_098_411,
        ("opt", 1000): 28_153_578, ("opt", 5859): 52_139_774,
        ("opt", 20000): 54_098_411, ("opt", None): 54_098_411,
    }  # fmt: skip
