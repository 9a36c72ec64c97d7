"""The rule of each kind of cache: what is found, what is kept, and which kind a model has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aot.configs.caches import of_model
from aot.configs.caches.endless import EndlessCache
from aot.configs.caches.paged import PagedCache
from aot.configs.caches.rule import CacheRule, Layers, dense
from aot.configs.kernel.chains import block_chain

BLOCK = 16
FULL, WINDOW, STATE = Layers("full"), Layers("window", 128), Layers("state")
STATIC = list(range(1000, 3065))


def asked(cache: EndlessCache, count: int = 4) -> list[int]:
    """What each of several prompts with one static part finds; then the first one again."""
    found = []
    for number in [*range(count), 0]:
        prompt = [*STATIC, *range(50_000 + 100 * number, 50_040 + 100 * number)]
        found.append(cache.found_tokens(prompt))
        cache.add(prompt, None)
    return found


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        (dense(BLOCK), [0, 2064, 2064, 2064, 2096]),
        # As vLLM 0.32's own KVCacheManager answers.
        (CacheRule(BLOCK, (FULL, WINDOW)), [0, 0, 2064, 2064, 2096]),
        (CacheRule(BLOCK, (FULL, WINDOW), None), [0, 2064, 2064, 2064, 2096]),
        (CacheRule(BLOCK, (FULL, Layers("window", 512))), [0, 0, 2064, 2064, 2096]),
        (CacheRule(BLOCK, (FULL, STATE)), [0, 0, 2064, 2064, 2096]),
        (CacheRule(BLOCK, drops_last_block=True), [0, 2048, 2048, 2048, 2080]),
        (CacheRule(BLOCK, (FULL, Layers("chunk", 64))), [0, 2064, 2064, 2064, 2096]),
    ],
)
def test_what_prompts_with_one_beginning_find(rule: CacheRule, found: list[int]) -> None:
    assert asked(EndlessCache(rule)) == found


def test_an_interval_keeps_windows_where_nobody_parted() -> None:
    cache = EndlessCache(CacheRule(BLOCK, (FULL, WINDOW), retention_tokens=512))
    one, two, three = ([*STATIC, *range(first, first + 900)] for first in (5000, 7000, 9000))
    cache.add(one, None)
    assert cache.found_tokens(two) == 2048  # a multiple of the interval
    cache.add(two, None)
    assert cache.found_tokens(three) == 2064  # where the two parted


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("layers", [(FULL,), (FULL, WINDOW), (FULL, STATE)])
def test_the_last_token_is_never_found(size: int, layers: tuple[Layers, ...]) -> None:
    cache = EndlessCache(CacheRule(BLOCK, layers))
    prompt = list(range(size))
    cache.add(prompt, None)
    assert cache.found_tokens(prompt) == (BLOCK if size > BLOCK else 0)
    # A window or a state of a prompt that ends with a block is kept before its last token's block.
    least = BLOCK if layers == (FULL,) else BLOCK + 1
    assert cache.found_tokens([*prompt, 7]) == (BLOCK if size >= least else 0)
    assert cache.found_tokens(prompt, "salt") == 0


def test_one_window_alone_promises_nothing() -> None:
    """No other layers tell where two prompts part, so vLLM pins nothing there."""
    rule = CacheRule(BLOCK, (Layers("window", 128),))
    assert asked(EndlessCache(rule))[1:4] == [0, 0, 0]
    assert rule.fills == 1
    assert rule.expected_tokens(2065, 2105) == 0
    assert rule.expected_tokens(2105, 2105) == asked(EndlessCache(rule))[-1] == 2096


def test_fillings_until_everybody_finds_it() -> None:
    assert dense(BLOCK).fills == 1
    assert CacheRule(BLOCK, (FULL, WINDOW)).fills == 2
    assert CacheRule(BLOCK, (FULL, WINDOW), None).fills == 1


def test_a_rule_is_read_as_it_was_written() -> None:
    rule = CacheRule(BLOCK, (FULL, WINDOW), None, drops_last_block=True)
    assert CacheRule.from_json(json.loads(json.dumps(rule.as_json()))) == rule


def test_a_full_cache_gives_up_what_was_not_used_longest() -> None:
    cache = PagedCache(dense(BLOCK), blocks=8)
    first, second = list(range(64)), list(range(100, 164))

    def send(prompt: list[int]) -> int:
        running = cache.start(len(prompt), block_chain(prompt, BLOCK))
        cache.advance(running, len(prompt) - running.computed_tokens)
        cache.finish(running)
        return running.found

    assert [send(first), send(second), send(first)] == [0, 0, 3]
    assert send(list(range(200, 280))) == 0  # five blocks: second goes, its last ones first
    assert send(first) == 3
    assert send(second) == 0


def test_a_cache_without_room_says_so() -> None:
    cache = PagedCache(dense(BLOCK), blocks=2)
    running = cache.start(64, block_chain(range(64), BLOCK))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no block left that nobody holds"):
        cache.advance(running, 64)


GEMMA = ["sliding_attention"] * 5 + ["full_attention"]


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({"num_hidden_layers": 4}, (FULL,)),
        ({"num_hidden_layers": 4, "kv_lora_rank": 512}, (FULL,)),
        ({"num_hidden_layers": 4, "sliding_window": 4096}, (Layers("window", 4096),)),
        ({"num_hidden_layers": 4, "sliding_window": 4096, "use_sliding_window": False}, (FULL,)),
        ({"num_hidden_layers": 4, "sliding_window": None}, (FULL,)),
        ({"layer_types": GEMMA * 2, "sliding_window": 512}, (FULL, Layers("window", 512, 5))),
        ({"text_config": {"model_type": "gemma3_text", "num_hidden_layers": 12,
                          "sliding_window": 1024}}, (FULL, Layers("window", 1024, 5))),
        ({"model_type": "gemma2", "num_hidden_layers": 4, "sliding_window": 4096},
         (FULL, Layers("window", 4096))),
        ({"layer_types": ["linear_attention"] * 3 + ["full_attention"]},
         (FULL, Layers("state", 0, 3))),
        ({"num_hidden_layers": 8, "full_attention_interval": 4}, (FULL, Layers("state", 0, 3))),
        ({"num_hidden_layers": 8, "attn_layer_period": 8, "attn_layer_offset": 4},
         (FULL, Layers("state", 0, 7))),
        ({"num_hidden_layers": 4, "attn_layer_indices": [1, 3]}, (FULL, STATE)),
        ({"hybrid_override_pattern": "M-M*-M*-"}, (FULL, Layers("state", 0, 2))),
        ({"model_type": "falcon_h1", "num_hidden_layers": 4}, (FULL, STATE)),
        ({"model_type": "llama4_text", "num_hidden_layers": 8, "attention_chunk_size": 8192},
         (FULL, Layers("chunk", 8192, 3))),
        ({"num_hidden_layers": 4, "sliding_window": 4096, "max_position_embeddings": 4096},
         (FULL,)),
        ({"num_hidden_layers": 4, "linear_attn_config": {}}, None),
        ({"num_hidden_layers": 4, "full_attn_idxs": [1]}, None),
        ({"model_type": "mamba", "num_hidden_layers": 4, "state_size": 16}, None),
        ({"layer_types": ["full_attention", "something_new"]}, None),
        ({"layer_types": ["sliding_attention", "full_attention"]}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_model_says_which_layers_it_has(
    config: dict[str, Any], layers: tuple[Layers, ...] | None
) -> None:
    assert of_model.layers_of(config) == layers


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_a_configuration_that_cannot_be_read_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    assert of_model.layers_of(of_model.read(tmp_path)) is None
