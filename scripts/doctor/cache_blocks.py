"""How many blocks of a cache so much memory is, and how many a server file's cache has."""

from __future__ import annotations

from pathlib import Path

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.loading.presets import recipe_names
from aot.scripts.doctor import sizing
from aot.scripts.prompts.compiling import model_folder
from aot.serving.memory.architectures import GIB, architecture
from aot.serving.memory.card_memory import BYTES, kv_bytes_per_token


def blocks_of(
    gib: float, server: Path | None, model: str | None, block_tokens: int, groups: int
) -> int:
    """How many blocks so much memory is: by the server file, with its KV dtype and over all of its
    cards; else by the model in its own dtype. `groups` of layers share the blocks.

    Raises UsageError where the model is not known, or that is less than a block.
    """
    if server:
        memory = sizing.size(server, None).memory
        per_token = memory.kv_bytes_per_token * memory.cards
    elif model:
        known = architecture(str(model_folder(model)) if is_here(model) else model, ask_hub=False)
        per_token = kv_bytes_per_token(known, 1, BYTES.get(known.weights_dtype, 2))
    else:
        raise UsageError(
            f"--capacity {gib:g}GiB: how many tokens that is depends on the model: name it with "
            "--model, or a server file with --server"
        )
    blocks = int(gib * GIB / per_token * groups) // block_tokens
    if not blocks:
        raise UsageError(f"--capacity {gib:g}GiB: less than a block of {block_tokens} tokens")
    return blocks


def own_blocks(server: Path, block_tokens: int, groups: int) -> int | None:
    """What the cache of one replica of a server file holds; None where that is not known here."""
    try:
        tokens = sizing.size(server, None).memory.cache_tokens
    except ToolkitError:
        return None
    return tokens * groups // block_tokens or None


def is_here(model: str) -> bool:
    """Whether a model is a folder or a recipe of this machine, rather than an id of the hub."""
    return Path(model).is_dir() or model in recipe_names("models")
