"""A request without its text: keyed, chained hashes of the blocks of its prompt, and lengths.

Whoever has the key can tell whether a known prompt was sent; without it equal beginnings are seen
to be equal, and nothing else. Blocks are full ones of the prompt's tokens, so that an oracle finds
in them what it would find in the text.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aot.workloads.requests import body as bodies
from aot.workloads.traces.hashed import CAPTURED

Encode = Callable[..., list[int]]
BYTES = 8


@dataclass(frozen=True, slots=True)
class Blocks:
    """Makes rows for one key, one tokenizer and one size of blocks."""

    key: bytes
    block_tokens: int
    encode: Encode

    def row(self, endpoint: str, body: Mapping[str, Any], answer: str) -> dict[str, Any]:
        """What takes the place of 'body'. `answer`: the text that was generated."""
        messages, tools = bodies.chat(endpoint, body)
        arguments = body.get("chat_template_kwargs") or {}
        prompt = self.encode(messages, tools, arguments)
        said = [*messages, {"role": "assistant", "content": answer}]
        whole = self.encode(said, tools, {**arguments, "add_generation_prompt": False})
        salt = bodies.apart(body) or ""
        names = self.names(prompt, salt)
        behind = self.names(whole, salt)[len(names) :] if answer else []
        return {
            "format": CAPTURED,
            "block_size": self.block_tokens,
            "input_length": len(prompt),
            "hash_ids": names,
            "output_hash_ids": behind,
        }

    def names(self, ids: Sequence[int], salt: str) -> list[str]:
        """Of the full blocks: each over all before it."""
        before, names = self._hash(b"salt:" + salt.encode()), []
        for end in range(self.block_tokens, len(ids) + 1, self.block_tokens):
            tokens = ids[end - self.block_tokens : end]
            before = self._hash(before + b"".join(t.to_bytes(4, "big") for t in tokens))
            names.append(before[:BYTES].hex())
        return names

    def _hash(self, data: bytes) -> bytes:
        return hmac.digest(self.key, data, hashlib.sha256)
