"""What an answer that passed by said of itself: usage, finish, and how it ended."""

from __future__ import annotations

import zlib
from typing import Any

from aot.configs.dialects.dialect import BrokenAnswerError, Told
from aot.configs.dialects.table import DIALECTS

MOST_BYTES = 64 << 20
"""Of one answer that are kept to be looked at; of a longer one only its length is known."""


def said(endpoint: str, streamed: bool, data: bytes) -> dict[str, Any]:
    """usage, finish_reason, output (the text) and, for what was no whole answer, error."""
    told, dialect = Told(), DIALECTS[endpoint]
    texts, error = [], None
    try:
        if streamed:
            for payload in _payloads(data):
                texts.append(dialect.take(payload, told) or "")
        else:
            texts.append(dialect.whole(data, told))
    except BrokenAnswerError as broken:
        error = str(broken)
    usage = {
        "prompt_tokens": told.prompt_tokens,
        "completion_tokens": told.output_tokens,
        "prompt_tokens_details": None
        if told.cached_tokens is None
        else {"cached_tokens": told.cached_tokens},
    }
    row: dict[str, Any] = {"usage": {k: v for k, v in usage.items() if v is not None}}
    if told.finish_reason:
        row["finish_reason"] = told.finish_reason
    if error:
        row["error"] = error
    return row | {"text": "".join(texts)}


def unpacked(data: bytes, coding: str) -> bytes:
    """What an answer was before it was packed; as it is for a packing that is not known here, or
    that broke off."""
    if coding not in ("gzip", "x-gzip", "deflate"):
        return data
    try:
        return zlib.decompressobj(32 + zlib.MAX_WBITS).decompress(data)
    except zlib.error:
        return data


def _payloads(data: bytes) -> list[bytes]:
    lines = data.replace(b"\r\n", b"\n").split(b"\n")
    values = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    return [v for v in values if v and v != b"[DONE]"]
