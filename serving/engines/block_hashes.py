"""The hashes under which vLLM keeps full blocks, so that they can be looked for on a live server.

Rule of vLLM 0.32 with --prefix-caching-hash-algo sha256_cbor (v1/core/kv_cache_utils.py,
hash_block_tokens; utils/hashing.py): SHA-256 over the canonical CBOR of
(parent hash, token ids, extra keys), where the first parent is the hash of a fixed seed, and a
cache salt is an extra key of the first block. Its default algorithm, sha256, hashes Python pickles
instead. Other keys (LoRA adapters, images, prompt embeddings) are not reproduced here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import cbor2

from aot.configs.kernel.chains import full_blocks

ALGORITHM = "sha256_cbor"
SEED = "vllm-none-hash"  # DEFAULT_NONE_HASH_SEED; a server with PYTHONHASHSEED set uses that


def chain(token_ids: Sequence[int], block_tokens: int, salt: str | None = None) -> list[bytes]:
    """One hash per full block of `token_ids`, each over its block and all before it."""
    hashes: list[bytes] = []
    parent = _hash(SEED)
    for block in full_blocks(token_ids, block_tokens):
        extra = (("cache_salt", salt),) if salt and not hashes else None
        parent = _hash((parent, block, extra))
        hashes.append(parent)
    return hashes


def hexadecimal(token_ids: Sequence[int], block_tokens: int, salt: str | None = None) -> list[str]:
    """The same as text."""
    return [block_hash.hex() for block_hash in chain(token_ids, block_tokens, salt)]


def event_id(block_hash: bytes) -> int:
    """The number by which KV events name a block: the low 64 bits of its hash."""
    return int.from_bytes(block_hash, "big") & ((1 << 64) - 1)


def _hash(value: Any) -> bytes:
    return hashlib.sha256(cbor2.dumps(value, canonical=True)).digest()
