"""Coding agents' sessions as kv-cache-tester and AgentX publish them: one object a session, with
nested subagents (callanjfox/kv-cache-tester, traces/).

A request: t (s from the session's begin), in, out (tokens), hash_ids of blocks of `block_size`,
api_time, think_time. A subagent: t, requests with times from its own begin. `hash_id_scope` local:
equal ids mean equal blocks within a session only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from aot.workloads.logs.file import Rows
from aot.workloads.logs.traced import Traced, count, seconds


def sessions(rows: Rows) -> Iterator[Traced]:
    """The requests of all sessions, each session in order of time."""
    for number, row in rows.objects():
        try:
            made = sorted(_requests(number, row), key=lambda t: t.at_s or 0.0)
        except KeyError as error:
            rows.bad(number, f"field {error} is missing")
            continue
        except (TypeError, ValueError) as error:
            rows.bad(number, str(error))
            continue
        yield from made


def _requests(number: int, row: dict[str, Any]) -> Iterator[Traced]:
    session = str(row.get("id", number))
    scope = row.get("hash_id_scope", "local")
    if scope not in ("local", "global"):
        raise ValueError(f"field 'hash_id_scope' is {scope!r}, expected local or global")
    name = session if scope == "local" else ""
    yield from _nested(number, row, session, name, 0.0)


def _nested(
    number: int, agent: dict[str, Any], session: str, scope: str, begin_s: float
) -> Iterator[Traced]:
    if not isinstance(requests := agent["requests"], list):
        raise ValueError("field 'requests' is no list")
    for at, request in enumerate(requests):
        at_s = begin_s + seconds(request, "t")
        if "requests" in request:
            inner = f"{session}/{request.get('agent_id', at)}"
            yield from _nested(number, request, inner, scope, at_s)
            continue
        yield replace(_one(number, request, scope), at_s=at_s, session=session)


def _one(number: int, request: dict[str, Any], scope: str) -> Traced:
    ids, tokens = request["hash_ids"], count(request, "in", 1)
    if not isinstance(ids, list) or not all(type(i) is int for i in ids):
        raise ValueError("field 'hash_ids' is no list of block ids")
    think = request.get("think_time")
    return Traced(
        number,
        input_tokens=tokens,
        output_tokens=count(request, "out"),
        blocks=[(scope, i) for i in ids],
        duration_s=seconds(request, "api_time") if "api_time" in request else None,
        think_s=float(think) if isinstance(think, int | float) else 0.0,
    )
