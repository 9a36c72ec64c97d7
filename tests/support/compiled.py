"""Compiled prompts, made by hand."""

from __future__ import annotations

import json
from pathlib import Path

from aot.workloads.prompts.compiled import BlockHashes, Compiled, Spread

BLOCK = 4


def _hashes(count: int) -> list[str]:
    return [f"{n:064x}" for n in range(count)]


def prompt(name: str, ids: list[int], salt: str | None = None, block: int = BLOCK) -> Compiled:
    full = len(ids) // block
    user = [{"role": "user", "content": "q"}]
    return Compiled(
        prompt=name, variables={}, model="m", tokenizer_sha256="t", block_tokens=block,
        cache_salt=salt, static_tokens=len(ids), dynamic_tokens=Spread(min=2, median=2, max=2),
        full_blocks=full, cached_tokens=full * block, rounding_tokens=len(ids) - full * block,
        cache_key="k", segments=[], templates=[],
        block_hashes=BlockHashes(algorithm="sha256_cbor", hashes=_hashes(full)),
        static_token_ids=ids, messages=[{"role": "system", "content": name}], tools=[],
        probes=(user, user),
    )  # fmt: skip


def compiled_file(path: Path, words: int = 8) -> Path:
    """One of so many tokens, as `aot compile` writes it."""
    made = prompt(path.stem, list(range(words)))
    path.write_text(json.dumps(made.model_dump(mode="json")))
    return path
