"""Which kinds of layers a model has, by configurations as they are published."""

from __future__ import annotations

from typing import Any

import pytest

from aot.configs.kernel.errors import NotSettledError
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.card.budget import Place
from aot.serving.engines.card.pools import in_blocks, in_pools, kept
from aot.serving.memory.architectures import described
from aot.serving.memory.card_memory import memory_of
from aot.serving.memory.fitting import shortfall, undecided
from aot.serving.memory.layers import Layers, layers_of, text_of

PLAIN = {"num_hidden_layers": 32, "num_attention_heads": 32}
KINDS: dict[str, tuple[dict[str, Any], Layers]] = {
    "all tokens in all layers": (PLAIN, Layers(32)),
    "a window that is not used": ({**PLAIN, "sliding_window": 4096}, Layers(32)),
    "Gemma 3 as it is published": (
        {
            "model_type": "gemma3",
            "text_config": {"num_hidden_layers": 62, "sliding_window": 1024},
        },
        Layers(10, 52, 1024),
    ),
    "Gemma 3 with all that it leaves out": (
        {"model_type": "gemma3", "text_config": {"num_hidden_layers": 34}},
        Layers(5, 29, 4096),
    ),
    "layers that share a cache": (
        {"num_hidden_layers": 10, "num_kv_shared_layers": 4, "sliding_window": 512,
         "layer_types": ["sliding_attention"] * 4 + ["full_attention"]},
        Layers(1, 5, 512),
    ),
    "chunks are kept in full": (
        {"num_hidden_layers": 4, "layer_types": ["chunked_attention"] * 3 + ["full_attention"]},
        Layers(4),
    ),
    "linear attention by its interval": (
        {"num_hidden_layers": 48, "full_attention_interval": 4, "linear_num_value_heads": 32},
        Layers(12, states=36, state_bytes=8192 * 3 * 2 + 32 * 128 * 128 * 2),
    ),
    "linear attention with a wide state": (
        {"num_hidden_layers": 32, "layer_types": ["linear_attention"] * 3 + ["full_attention"],
         "mamba_ssm_dtype": "float32"},
        Layers(8, states=24, state_bytes=8192 * 3 * 2 + 32 * 128 * 128 * 4),
    ),
    "Mamba by a pattern": (
        {"num_hidden_layers": 6, "hybrid_override_pattern": "MEM*ME", "mamba_num_heads": 64,
         "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4},
        Layers(1, states=3, state_bytes=(4096 + 2 * 8 * 128) * 3 * 2 + 4096 * 128 * 4),
    ),
    "a latent, where nothing says of which model": (
        {"num_hidden_layers": 61, "kv_lora_rank": 512}, Layers(61),
    ),
    "an index beside the latent": (
        {"model_type": "deepseek_v32", "num_hidden_layers": 61, "kv_lora_rank": 512,
         "index_head_dim": 128},
        Layers(61, index_bytes=132),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_layers(name: str) -> None:
    config, layers = KINDS[name]
    assert layers_of(name, text_of(config)) == layers


@pytest.mark.parametrize(
    "more",
    [{"layer_types": ["sparse"]}, {"compress_ratios": [1]}, {"linear_attn_config": {"a": 1}}],
)
def test_what_is_not_understood_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(NotSettledError, match=r"is not known here .*start the server"):
        layers_of("m", text_of({**PLAIN, **more}))


def gemma(layers: int = 60) -> Any:
    text = {
        "num_hidden_layers": layers, "hidden_size": 5376, "intermediate_size": 21504,
        "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 256, "vocab_size": 262144,
        "num_global_key_value_heads": 4, "global_head_dim": 512, "sliding_window": 1024,
        "max_position_embeddings": 262144,
        "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
    }  # fmt: skip
    return described("m", text, {"BF16": 10**9}, "x")


def test_windows_count_as_long_as_they_are() -> None:
    """By hand: blocks of 16 tokens of a window have the bytes of 32 tokens of other layers."""
    of = kept(gemma(), 1, 2, None)
    assert (of.full, of.sliding) == (8192, 16384)
    block = 10 * 16 * 16384
    short, long = (in_blocks(1000 * block, of, 16, n, 16384) for n in (16384, 262144))
    assert short.tokens == int(1000 / (512 + 5 * 1025) * 16384)
    assert long.tokens == int(1000 / (8192 + 5 * (1088 + 1)) * 262144)


def test_heads_and_states_are_divided_and_latents_are_not() -> None:
    one, two = (kept(gemma(), n, 2, None) for n in (1, 2))
    assert (one.full, one.sliding) == (2 * two.full, 2 * two.sliding)
    latent = gemma().model_copy(
        update={"latent_dim": 576, "index_bytes": 132, "sliding_layers": 0, "sliding_window": None}
    )
    assert kept(latent, 8, 2, None).full == 1152 + 132
    assert kept(latent, 8, 1, 656).full == 656 + 132


@pytest.mark.parametrize(
    ("requests", "verdict"),
    [(8, "fits"), (80, "cannot say"), (256, "does not"), (1024, "does not")],
)
def test_states_count_in_what_can_be_said(requests: int, verdict: str) -> None:
    """A card on which the least of a reserve leaves room for more states than the most does, and
    for 256 with neither."""
    hybrid = described(
        "m",
        {"num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 17408,
         "num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 256,
         "vocab_size": 248320, "max_position_embeddings": 262144, "mamba_ssm_dtype": "float32",
         "layer_types": ["linear_attention"] * 3 + ["full_attention"],
         "linear_num_value_heads": 48},
        {"U8": (36 * 2**30)}, "x",
    )  # fmt: skip
    args = ["--max-num-seqs", str(requests)]
    server = ServerConfig.model_validate({"model": "m", "context_tokens": 4096, "args": args})
    memory = memory_of(server, hybrid, Place("a card", 44.4, cuda=True, fp8=True), "bfloat16")
    assert memory.states is not None
    assert memory.fits == (verdict == "fits"), memory
    assert (undecided(memory) is not None) == (verdict == "cannot say"), memory
    assert (shortfall(memory) is not None) == (verdict == "does not"), memory


def test_sglang_has_a_pool_for_each_kind() -> None:
    of = kept(gemma(), 1, 2, None)
    held = in_pools(10**9, of, 1, 0.8, 0.9)
    assert held.tokens == int(10**9 / (10 * 8192 + 0.8 * 50 * 16384))
    assert held.states is None
    hybrid = gemma().model_copy(
        update={"sliding_layers": 0, "sliding_window": None, "layers": 10, "state_layers": 30,
                "state_bytes": 10**6, "global_head_dim": None, "global_kv_heads": None}
    )  # fmt: skip
    held = in_pools(19 * 10**8, kept(hybrid, 1, 2, None), 1, 0.8, 0.9)
    assert held.states is None
    assert held.tokens == pytest.approx(10**9 / (10 * 16384), rel=0.001)
