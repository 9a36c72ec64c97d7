"""Which kinds of layers a model has, by its config.json, and what each of them keeps (pure).

Keys and values of every token (full attention), of a window's tokens (sliding), a state of one
size (linear attention, Mamba), one latent a token (multi-head latent attention), an index beside
it. What is not understood is refused: a wrong kind is a wrong number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aot.configs.kernel.errors import NotSettledError

FULL = {"full_attention", "attention", "chunked_attention"}
"""Of chunked attention (Llama 4) all tokens are kept: vLLM's manager of several kinds is off for it
by default (vllm-project/vllm#26094, and its logs)."""
STATES = {"linear_attention", "mamba"}
NOT_UNDERSTOOD = re.compile(
    r"compress_|hybrid_layer_pattern|attn_layer_period|layers_block_|linear_attn_config|"
    r"ssm_cfg|mamba_d_ssm|rwkv|block_configs|block_types|attn_layer_indices|full_attn_idxs|"
    r"mb_per_layer|cross_attention|^lru_"
)
"""Keys of models whose layers keep something else, or in an order that is not read here."""
RECURRENT = re.compile(r"^(mamba|ssm|conv)_")
"""Keys of states that some layers keep; which layers, other keys must say."""
LATENT = {
    "axk1", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa", "glm4_moe_lite", "kimi_k2",
    "pangu_ultra_moe",
}  # fmt: skip
"""Models of which one latent a token is kept (vLLM: model_arch_config_convertor.py,
is_deepseek_mla); others with a `kv_lora_rank` are given keys and values again (MiniCPM3)."""
WHOLE = 1
"""In `attn_type_list` (MiniMax): full attention."""
PATTERN = {"*": "full_attention", "M": "mamba"}
"""Of `hybrid_override_pattern` (Nemotron-H); its other letters keep nothing."""
INDEX_SCALE_BYTES = 4
"""DeepSeek's sparse attention keeps an FP8 key of `index_head_dim` and its scale a token and layer
(vLLM: models/deepseek_v2.py, DeepseekV32IndexerCache)."""
PERIODS = {"gemma2": 2, "gemma3_text": 6, "cohere2": 4}
"""One layer in so many sees all, by transformers' own default of sliding_window_pattern."""
FLOAT32_STATES = "hybrid_override_pattern"
"""Nemotron-H's states are of float32 unless it says otherwise (vLLM: models/config.py,
DEFAULT_MAMBA_SSM_CACHE_DTYPE)."""
LINEAR = {
    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_value_head_dim": 128,
    "linear_num_key_heads": 16, "linear_num_value_heads": 32,
}  # fmt: skip
"""transformers' defaults (Qwen3NextConfig)."""
LINEAR_PERIOD = 4
DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262_208,
        "max_position_embeddings": 131_072, "sliding_window": 4096, "hidden_size": 2304,
        "intermediate_size": 9216, "num_hidden_layers": 26,
    },
    "mistral": {
        "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "vocab_size": 32_000,
        "max_position_embeddings": 131_072,
    },
    "llama": {
        "num_attention_heads": 32, "hidden_size": 4096, "intermediate_size": 11_008,
        "num_hidden_layers": 32, "vocab_size": 32_000, "max_position_embeddings": 2048,
    },
}  # fmt: skip
"""What a published config.json leaves out, because it is transformers' own default."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Counts of layers by what they keep. `state_bytes`: of one layer and one request."""

    full: int
    sliding: int = 0
    window: int | None = None
    states: int = 0
    state_bytes: int | None = None
    index_bytes: int = 0
    """A token and layer, beside the latent."""


TEXT = ("text_config", "llm_config", "language_config", "thinker_config")
"""Where a config.json of more than text has what is about text."""
ENCODERS = re.compile(r"^(vision|visual|vit|image|img|audio|speech)")
"""Beginnings of keys that describe one (Phi's are called img_processor, audio_processor)."""


def text_of(config: Mapping[str, Any], kind: str = "") -> dict[str, Any]:
    """What of config.json is about text, with what it leaves out; `kind`: of the whole."""
    kind = str(config.get("model_type") or kind)
    for key in TEXT:
        if config.get(key):
            return text_of(dict(config[key]), kind)
    kind = "gemma3_text" if kind == "gemma3" else kind
    return {**DEFAULTS.get(kind, {}), **config, "model_type": kind}


def has_encoder(config: Mapping[str, Any]) -> bool:
    """Of images or sound, beside what is about text."""
    described = {key: value for key, value in config.items() if isinstance(value, Mapping)}
    inner = described.get("thinker_config")
    return (
        any(ENCODERS.search(key) and value for key, value in described.items())
        or bool(config.get("mm_vision_tower"))
        or (inner is not None and has_encoder(inner))
    )


def layers_of(name: str, text: Mapping[str, Any]) -> Layers:
    """The kinds of `text` (of `text_of`). NotSettledError where they are not understood."""
    unknown = sorted({k for k in text if NOT_UNDERSTOOD.search(k) and text[k]} | _unplaced(text))
    counts = _counts(text)
    unknown += sorted(kind for kind in counts if kind not in {*FULL, *STATES, "sliding_attention"})
    if unknown:
        raise NotSettledError(
            f"{name}: what some of its layers keep is not known here ({', '.join(unknown)}); start "
            "the server and read 'KV cache' in its log"
        )
    states = sum(counts[kind] for kind in STATES)
    sliding = counts["sliding_attention"] if text.get("sliding_window") else 0
    full = sum(counts[kind] for kind in FULL) + counts["sliding_attention"] - sliding
    index = text.get("index_head_dim")
    return Layers(
        full=full,
        sliding=sliding,
        window=text.get("sliding_window") if sliding else None,
        states=states,
        state_bytes=_state_bytes(name, text, counts) if states else None,
        index_bytes=int(index) + INDEX_SCALE_BYTES if index else 0,
    )


def _unplaced(text: Mapping[str, Any]) -> set[str]:
    """Keys of layers that are others, where none of those that are read says which they are."""
    found = set()
    if not (text.get("layer_types") or text.get("hybrid_override_pattern")):
        found |= {key for key in text if RECURRENT.search(key) and text[key]}
        pattern, kind = text.get("sliding_window_pattern"), text.get("model_type")
        if pattern and text.get("sliding_window") and kind not in PERIODS:
            found.add("sliding_window_pattern")
    if {*(text.get("attn_type_list") or ())} - {WHOLE}:
        found.add("attn_type_list")
    if text.get("kv_lora_rank") and text.get("model_type") and text["model_type"] not in LATENT:
        found.add("kv_lora_rank")
    return found


def _counts(text: Mapping[str, Any]) -> Counter[str]:
    """Layers by kind, without those that share the cache of another one."""
    layers, kinds = int(text["num_hidden_layers"]), list(text.get("layer_types") or ())
    if pattern := text.get("hybrid_override_pattern"):
        kinds = [PATTERN[letter] for letter in pattern if letter in PATTERN]
        return Counter(kinds)
    if not kinds and (_has_linear(text) or text.get("full_attention_interval")):
        period = int(text.get("full_attention_interval") or LINEAR_PERIOD)
        kinds = ["linear_attention"] * (period - 1) + ["full_attention"]
    if not kinds and (usual := PERIODS.get(str(text.get("model_type")))):
        period = int(text.get("sliding_window_pattern") or usual)
        kinds = ["sliding_attention"] * (period - 1) + ["full_attention"]
    if not kinds:
        kinds = ["full_attention"]
    # Some list one period of the pattern only.
    every = [kinds[n % len(kinds)] for n in range(layers)]
    return Counter(every[: layers - int(text.get("num_kv_shared_layers") or 0)])


def _has_linear(text: Mapping[str, Any]) -> bool:
    return any(key in text for key in LINEAR)


def _state_bytes(name: str, text: Mapping[str, Any], counts: Counter[str]) -> int:
    if counts["mamba"] and counts["linear_attention"]:
        raise NotSettledError(f"{name}: layers with states of two kinds are not computed here")
    wide = _wide(text)
    if counts["mamba"]:
        return _mamba_bytes(name, text, wide)
    kernel, key_dim, value_dim, key_heads, value_heads = (
        int(text.get(key, default)) for key, default in LINEAR.items()
    )
    width = 2 * key_heads * key_dim + value_heads * value_dim
    return width * (kernel - 1) * 2 + value_heads * value_dim * key_dim * wide


def _wide(text: Mapping[str, Any]) -> int:
    """Bytes of a number of the recurrent state: as computed, unless the model asks for more."""
    asked = text.get("mamba_ssm_dtype") or text.get("mamba_ssm_cache_dtype")
    asked = asked or ("float32" if text.get(FLOAT32_STATES) else None)
    return 4 if asked == "float32" else 2


def _mamba_bytes(name: str, text: Mapping[str, Any], wide: int) -> int:
    """Mamba 2 (vLLM: mamba_utils.py, mamba2_state_shape)."""

    def value(*keys: str) -> int:
        found = next((text[key] for key in keys if text.get(key)), None)
        if found is None:
            raise NotSettledError(f"{name}: its config.json has no {keys[0]}")
        return int(found)

    heads = value("mamba_num_heads", "mamba_n_heads")
    inner = heads * value("mamba_head_dim", "mamba_d_head")
    size = value("ssm_state_size", "mamba_d_state")
    width = inner + 2 * value("n_groups", "mamba_n_groups") * size
    return width * (value("conv_kernel", "mamba_d_conv") - 1) * 2 + inner * size * wide
