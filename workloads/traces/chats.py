"""Traces of whole conversations: ShareGPT, and logs of chat requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from aot.workloads.logs import bodies
from aot.workloads.logs.bodies import Logged
from aot.workloads.logs.file import Rows
from aot.workloads.logs.traced import Traced, count, seconds
from aot.workloads.requests.body import chat
from aot.workloads.requests.request import Message

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
    """id, conversations [{from, value}]: one request for every human turn, with all before it. One
    JSON array, or one conversation a line."""
    for number, row in rows.objects():
        try:
            turns = [_turn(t) for t in row.get("conversations") or row["messages"]]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            rows.bad(number, f"no conversation: {error!r}")
            continue
        for end, turn in enumerate(turns, 1):
            if turn["role"] != "user":
                continue
            following = turns[end] if end < len(turns) else {}
            answered = following.get("role") == "assistant"
            yield Traced(
                number,
                session=str(row.get("id", number)),
                messages=tuple(turns[:end]),
                body={"messages": turns[:end]},
                answer=following["content"] if answered else None,
            )


def _turn(turn: dict[str, Any]) -> Message:
    text = turn.get("value", turn.get("content"))
    if not isinstance(text, str):
        raise ValueError("a turn without text")
    return {"role": ROLE_OF[turn.get("from", turn.get("role", ""))], "content": text}


def openai(rows: Rows) -> Iterator[Traced]:
    """Bodies of requests, one a line, bare or in whatever a gateway, an SDK or a tracing tool puts
    around them; of any endpoint (bodies.py)."""
    for number, row, logged in bodies.each(rows):
        yield from _turns(of_body(number, logged), row)


def _turns(traced: Traced, row: Mapping[str, Any]) -> Iterator[Traced]:
    """A request; or, of a whole trajectory that ends with what the model said, one before each of
    its turns (fine-tuning data, agents' trajectories)."""
    messages, body = traced.messages, traced.body or {}
    whole = messages and messages[-1].get("role") == "assistant" and "usage" not in row
    if not whole or traced.endpoint != "chat" or "continue_final_message" in body:
        yield traced
        return
    session = traced.session or str(row.get("id", traced.line))
    for end, message in enumerate(messages):
        if message.get("role") == "assistant" and end:
            yield replace(
                traced,
                session=session,
                served=None,  # what a row counts is of the whole
                messages=messages[:end],
                body={**body, "messages": list(messages[:end])},
                answer=said if isinstance(said := message.get("content"), str) else None,
            )


def aiperf(rows: Rows) -> Iterator[Traced]:
    """AIPerf's rows with messages: session_id, timestamp or delay (ms; the delay is behind the turn
    before), messages, output_length, tools."""
    for number, row in rows.objects():
        try:
            logged = bodies.found({k: v for k, v in row.items() if k not in ("timestamp", "delay")})
            at_s = seconds(row, "timestamp", 1000) if "timestamp" in row else None
            think_s = seconds(row, "delay", 1000) if "delay" in row else 0.0
            output = count(row, "output_length", 1) if "output_length" in row else None
        except (KeyError, TypeError, ValueError) as error:
            rows.bad(number, str(error))
            continue
        body = {**logged.body, **({"max_tokens": output} if output else {})}
        made = of_body(number, logged)
        yield replace(made, at_s=at_s, think_s=think_s, output_tokens=output, body=body)


def of_body(number: int, logged: Logged) -> Traced:
    """A logged request as one of a trace."""
    messages, tools = chat(logged.endpoint, logged.body)
    return Traced(
        number,
        at_s=logged.at_s,
        output_tokens=logged.output_tokens,
        session=logged.session,
        messages=tuple(messages),
        tools=tools,
        endpoint=logged.endpoint,
        body=logged.body,
        duration_s=logged.duration_s,
        served=logged.served,
    )
