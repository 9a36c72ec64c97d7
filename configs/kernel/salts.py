"""Cache salts: names that keep the cached prefixes of some requests apart from all others.

Both engines put a request's `cache_salt` under its prefix, so that a fresh salt means an empty
cache without a restart: one per phase for `auto` and `aot`, one per request for `jit`. vLLM takes
up to 128 characters without @ / \\ and NUL; hexadecimal is safe on both.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal


def tenant_salt(prefix: str, own: str | None, tenant_salts: bool) -> str | None:
    """The salt of a static prefix: its `own`, from the workload; else, where the server file says
    `tenant_salts: true`, one that is always the same, as a gateway's would be; else none."""
    return own or (_named(f"tenant/{prefix}") if tenant_salts else None)


@dataclass(frozen=True, slots=True)
class Salts:
    """`nonce` must never have been used on that server. kind: what shares a salt."""

    nonce: str
    kind: Literal["phase", "request"]

    def of(self, request_id: str, tenant_salt: str | None = None) -> str:
        """The salt of one request, whose tenant may have one of its own."""
        shared = self.nonce if self.kind == "phase" else f"{self.nonce}/{request_id}"
        shared += f"/{tenant_salt}" if tenant_salt else ""
        return _named(shared)


def _named(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
