"""Which groups of layers a model has, by its own configuration (config.json of transformers)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aot.configs.caches.rule import Kind, Layers

KINDS: Mapping[str, Kind] = {
    "full_attention": "full", "attention": "full", "*": "full", "hybrid": "state",
    "sliding_attention": "window", "sliding_window": "window", "local": "window",
    "chunked_attention": "chunk", "mamba": "state", "mamba2": "state", "linear_attention": "state",
    "conv": "state", "recurrent": "state", "M": "state",
}  # fmt: skip
"""Names of layers in `layer_types` and its like."""
BARE = ("-", "E", "mlp", "moe")
"""Layers without a cache."""
LISTS = ("layer_types", "layers_block_type", "block_types", "attention_layer_types")
STATES = (
    "linear_attn_config", "attn_type_list", "full_attn_idxs", "ssm_cfg", "ssm_state_size",
    "state_size", "conv_kernel", "mamba_d_state", "mamba_d_conv", "rwkv_version", "lru_width",
)  # fmt: skip
"""Keys of models with states whose layers are not known here one by one."""
LLAMA4_PATTERN = 4
"""Every fourth layer sees all (transformers, Llama4TextConfig.no_rope_layer_interval)."""
GEMMA2_PATTERN = 2
GEMMA3_PATTERN = 6


def read(folder: Path) -> dict[str, Any]:
    """The configuration in a model folder; empty where there is none that can be read."""
    try:
        data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def layers_of(config: Mapping[str, Any]) -> tuple[Layers, ...] | None:
    """The groups of a model; None for an empty configuration, and for layers nobody here knows.

    vLLM makes groups of equally many layers, as many as the smallest kind has
    (v1/core/kv_cache_utils.py, _get_kv_cache_groups_uniform_page_size).
    """
    if not config:
        return None
    text = config.get("text_config") or config
    kinds = _kinds(text)
    if kinds is None:
        return None
    window, context = _int(text, "sliding_window"), _int(text, "max_position_embeddings")
    if window and context and window >= context:  # a window that sees all
        kinds = ["full" if kind == "window" else kind for kind in kinds]
    counts = Counter(kinds)
    if "state" in counts and "hybrid" in _names(text):
        counts["full"] += counts["state"]  # such layers have both
    if not counts:
        return (Layers("full"),)
    least = min(counts.values())
    tokens = {
        "window": _int(text, "sliding_window"),
        "chunk": _int(text, "attention_chunk_size"),
    }
    if any(kind in counts and not tokens[kind] for kind in tokens):
        return None
    order: tuple[Kind, ...] = ("full", "window", "chunk", "state")
    return tuple(
        Layers(kind, tokens.get(kind) or 0, -(-counts[kind] // least))
        for kind in order
        if kind in counts
    )


def _kinds(text: Mapping[str, Any]) -> list[Kind] | None:
    """Of each layer with a cache; None where a name is not known."""
    names = _names(text)
    if names:
        if any(name not in KINDS and name not in BARE for name in names):
            return None
        return [KINDS[name] for name in names if name in KINDS]
    return _by_pattern(text, _int(text, "num_hidden_layers") or 1)


def _names(text: Mapping[str, Any]) -> Sequence[str]:
    """What a configuration calls its layers one by one; empty where it does not."""
    for key in LISTS:
        if isinstance(names := text.get(key), list) and names:
            return [str(name) for name in names]
    if isinstance(pattern := text.get("hybrid_override_pattern"), str):  # Nemotron-H: M-M*-
        return list(pattern)
    count = _int(text, "num_hidden_layers") or 0
    if isinstance(full := text.get("attn_layer_indices"), list):  # Bamba
        return ["attention" if n in full else "mamba" for n in range(count)]
    if period := _int(text, "attn_layer_period"):  # Jamba
        offset = _int(text, "attn_layer_offset") or 0
        return ["attention" if n % period == offset else "mamba" for n in range(count)]
    if every := _int(text, "full_attention_interval"):  # Qwen3-Next
        return ["linear_attention" if (n + 1) % every else "full_attention" for n in range(count)]
    if text.get("model_type") == "falcon_h1":
        return ["hybrid"] * count
    return []


def _by_pattern(text: Mapping[str, Any], count: int) -> list[Kind] | None:
    """Of models that say only how often a layer sees all, or that every one sees a window."""
    if any(key in text for key in STATES):
        return None
    if _int(text, "attention_chunk_size") and "llama4" in str(text.get("model_type")):
        return ["chunk" if (n + 1) % LLAMA4_PATTERN else "full" for n in range(count)]
    if not _int(text, "sliding_window") or text.get("use_sliding_window") is False:
        return ["full"] * count
    usual = {"gemma2": GEMMA2_PATTERN, "gemma3_text": GEMMA3_PATTERN, "gemma3": GEMMA3_PATTERN}
    every = _int(text, "sliding_window_pattern") or usual.get(str(text.get("model_type")), 0)
    if every:
        return ["window" if (n + 1) % every else "full" for n in range(count)]
    if (first := _int(text, "max_window_layers")) is not None:  # Qwen2: the first ones see all
        return ["full" if n < first else "window" for n in range(count)]
    return ["window"] * count


def _int(text: Mapping[str, Any], key: str) -> int | None:
    value = text.get(key)
    return value if type(value) is int else None
