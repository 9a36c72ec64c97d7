"""The model and the engine that traffic is seen by: whose tokens, whose blocks, whose cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aot.configs.caches import of_model
from aot.configs.caches.rule import CacheRule, dense
from aot.configs.kernel.errors import UsageError
from aot.scripts.prompts.compiling import model_folder
from aot.scripts.server_files import launched
from aot.scripts.terminal import note
from aot.serving.engines import table
from aot.serving.local import models


def rule_of(server: Path | None, model: str | None, block_tokens: int) -> CacheRule:
    """As `known_rule`; UsageError where that is None."""
    rule = known_rule(server, model, block_tokens)
    if rule is None:
        raise UsageError(
            f"{server or model}: the model's config.json names layers whose cache is not known "
            "here, or a connector decides what is kept: name a folder with its tokenizer only"
        )
    return rule


def known_rule(server: Path | None, model: str | None, block_tokens: int) -> CacheRule | None:
    """Of the cache of a server file's engine and model; of a model on vLLM; else of full attention.
    None for a model whose layers are not known here."""
    engine, args, folder = table.engine("vllm"), list[str](), None
    if server:
        config = launched(server, "look for")
        engine, args = table.engine(config.engine), config.args
        folder = Path(models.resolve(config.model, server))
    elif model:
        folder = model_folder(model)
    read = of_model.read(folder) if folder else {}
    return engine.planned_rule(block_tokens, read, args) if read else dense(block_tokens)


def as_served(server: Path, model: str | None, block: int | None) -> tuple[str, int]:
    """The model and the block size of a server file, where none is given."""
    config = launched(server, "look for")
    engine = table.engine(config.engine)
    size = block or config.block_tokens or engine.default_blocks["cuda"]
    return model or models.resolve(config.model, server), size


def by_rule(rule: CacheRule, chosen: Sequence[str]) -> list[str]:
    """The one policy of a cache with windows or states. UsageError where another was `chosen`."""
    if wrong := [name for name in chosen if name != "leaf-lru"]:
        raise UsageError(
            f"--policy {wrong[0]}: this model has layers that see a window, or keep a state, and "
            "is replayed by the rule of its own cache, in vLLM's order: leaf-lru only"
        )
    if rule.advice:
        note(rule.advice)
    return ["leaf-lru"]
