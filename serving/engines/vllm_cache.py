"""vLLM: the rule of its cache, by what it says of itself, its model and its arguments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from aot.configs.caches.of_model import layers_of
from aot.configs.caches.rule import CacheRule, Layers
from aot.serving.engines.flags import has, meant, value_of

CONNECTORS = frozenset({"--kv-transfer-config"})
ONE_KIND = "--disable-hybrid-kv-cache-manager"
"""Every layer is kept as if it saw all."""
RETENTION = "--prefix-cache-retention-interval"
DRAFTS = ("eagle", "mtp", "dflash")
"""Ways of speculation whose draft attends to the last block (config/speculative.py, use_eagle)."""


def rule(
    labels: Mapping[str, str], block_tokens: int, model: Mapping[str, Any], args: Sequence[str]
) -> CacheRule | None:
    """`labels`: of vllm:cache_config_info. None where the model is not known here."""
    layers = layers_of(model)
    if layers is None:
        return None
    if has(args, ONE_KIND):
        layers = (Layers("full"),)
    elif len(layers) > 1 and any(meant(word, "vllm", CONNECTORS) for word in args):
        return None  # whether it knows several kinds of layers is each connector's own
    if labels.get("mamba_cache_mode") == "all":
        layers = tuple(replace(g, kind="states") if g.kind == "state" else g for g in layers)
    kept = labels.get("prefix_cache_retention_interval", "None")
    return CacheRule(block_tokens, layers, int(kept) if kept.isdigit() else None, _drafts(args))


def planned(block_tokens: int, model: Mapping[str, Any], args: Sequence[str]) -> CacheRule | None:
    """The rule of an engine that is to be started with `args`: 0 is its default interval."""
    labels = {
        "prefix_cache_retention_interval": value_of(args, RETENTION) or "0",
        "mamba_cache_mode": value_of(args, "--mamba-cache-mode") or "",
    }
    return rule(labels, block_tokens, model, args)


def _drafts(args: Sequence[str]) -> bool:
    """Whether it speculates in a way that needs the last block anew."""
    method = value_of(args, "--speculative-config.method")
    try:
        method = (
            method or json.loads(value_of(args, "--speculative-config", "-sc") or "{}")["method"]
        )
    except (ValueError, KeyError, TypeError):
        return False
    return any(draft in str(method) for draft in DRAFTS)
