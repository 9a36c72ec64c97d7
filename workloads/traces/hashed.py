"""Traces that name the blocks of their prompts: Mooncake, Qwen-Bailian, kv-cache-tester."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aot.workloads.logs.traced import Traced, count, seconds

CAPTURED = "aot-blocks/1"
"""The 'format' of a capture without texts (workloads/capture/private.py)."""
MOONCAKE_BLOCK_TOKENS = 512
BAILIAN_BLOCK_TOKENS = 16
CODING_BLOCK_TOKENS = 64


def mooncake(number: int, row: dict[str, Any]) -> Traced:
    """timestamp (ms), input_length, output_length, hash_ids of 512-token blocks, global; the last
    block may be partial (kvcache-ai/Mooncake, FAST'25 traces)."""
    return Traced(
        number,
        at_s=seconds(row, "timestamp", 1000),
        input_tokens=count(row, "input_length", 1),
        output_tokens=count(row, "output_length"),
        blocks=_ids(row["hash_ids"]),
    )


def bailian(number: int, row: dict[str, Any]) -> Traced:
    """chat_id, parent_chat_id (-1: none), timestamp (s), input_length, output_length, type, turn,
    hash_ids of 16-token blocks (alibaba-edu/qwen-bailian-usagetraces-anon)."""
    parent = row["parent_chat_id"]
    return Traced(
        number,
        at_s=seconds(row, "timestamp"),
        input_tokens=count(row, "input_length", 1),
        output_tokens=count(row, "output_length"),
        session=str(row["chat_id"]),
        parent=None if str(parent) == "-1" else str(parent),
        blocks=_ids(row["hash_ids"]),
    )


def coding(number: int, row: dict[str, Any]) -> Traced:
    """session_id, t (s), input_length, output_length, hash_runs [[start, count], ...] of 64-token
    blocks, local to the session (callanjfox/kv-cache-tester)."""
    session = str(row["session_id"])
    runs = row["hash_runs"]
    if not isinstance(runs, list) or not all(isinstance(r, list) and len(r) == 2 for r in runs):
        raise ValueError("field 'hash_runs' is no list of [start, count]")
    tokens = count(row, "input_length", 1)
    if not all(type(x) is int and x >= 0 for run in runs for x in run):
        raise ValueError("field 'hash_runs' has something else than starts and counts in it")
    if sum(length for _, length in runs) > 2 * tokens / CODING_BLOCK_TOKENS + 2:
        raise ValueError(f"field 'hash_runs' has more blocks than {tokens} tokens can have")
    blocks = [(session, start + n) for start, length in runs for n in range(length)]
    return Traced(
        number,
        at_s=seconds(row, "t"),
        input_tokens=tokens,
        output_tokens=count(row, "output_length"),
        session=session,
        blocks=blocks,
    )


def captured(number: int, row: dict[str, Any]) -> Traced:
    """What `aot capture --private` writes: timestamp (s), duration_s, input_length, output_length,
    hash_ids of the full blocks of the prompt, output_hash_ids of those behind it."""
    ids = row["hash_ids"]
    if not isinstance(ids, list) or not isinstance(row.get("output_hash_ids", []), list):
        raise ValueError("field 'hash_ids' is no list of block ids")
    tokens = count(row, "input_length", 1)
    if len(ids) != tokens // count(row, "block_size", 1):
        raise ValueError(
            f"field 'hash_ids' has {len(ids)} blocks of {row['block_size']}, and the prompt has "
            f"{tokens} tokens"
        )
    return Traced(
        number,
        at_s=seconds(row, "timestamp"),
        input_tokens=tokens,
        output_tokens=count(row, "output_length"),
        blocks=ids,
        answer_blocks=row.get("output_hash_ids", []),
        duration_s=seconds(row, "duration_s") if "duration_s" in row else None,
    )


def _ids(value: Any) -> Sequence[int | str]:
    if not isinstance(value, list) or not value:
        raise ValueError("field 'hash_ids' is no list of block ids")
    # A set of types is quicker than a look at each of a hundred thousand ids.
    if not set(map(type, value)) <= {int, str}:
        raise ValueError("field 'hash_ids' has something else than numbers and names in it")
    return value
