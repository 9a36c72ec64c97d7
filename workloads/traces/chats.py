"""Traces of whole conversations: ShareGPT, and logs of chat requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from aot.workloads.requests.request import Message
from aot.workloads.traces import request_log
from aot.workloads.traces.file import Rows
from aot.workloads.traces.traced import Traced, seconds

ROLE_OF = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def sharegpt(rows: Rows) -> Iterator[Traced]:
    """id, conversations [{from, value}]: one request for every human turn, with all before it."""
    for number, row in rows.json_array():
        try:
            turns = [_turn(t) for t in row.get("conversations") or row["messages"]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            rows.bad(number, f"no conversation: {error!r}")
            continue
        for end, turn in enumerate(turns, 1):
            if turn["role"] == "user":
                yield Traced(
                    number, session=str(row.get("id", number)), messages=tuple(turns[:end])
                )


def _turn(turn: dict[str, Any]) -> Message:
    text = turn.get("value", turn.get("content"))
    if not isinstance(text, str):
        raise ValueError("a turn without text")
    return {"role": ROLE_OF[turn.get("from", turn.get("role", ""))], "content": text}


def openai(rows: Rows) -> Iterator[Traced]:
    """Chat bodies, one a line, bare or wrapped; with 'timestamp' (s) where they have one."""
    for number, row in rows.json_lines():
        try:
            logged = request_log.request(row, number)
        except ValueError as error:
            rows.bad(number, str(error))
            continue
        at_s = seconds(row, "timestamp") if "timestamp" in row else None
        yield replace(request_log.as_traced(logged), at_s=at_s)
