"""The streamed answer to one chat request → facts. Pure: what arrived, and when, is given.

Times were taken as each piece arrived; here events are told apart, and JSON is parsed only where
something must be known: the first text, usage, errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from aot.workloads.wire.record import Record

DONE = b"[DONE]"
EDGE = 4
"""Events at either end of a piece that are looked at one by one: role and first text; finish, usage
and end."""


class BrokenStreamError(Exception):
    """The answer ended or said something that a complete answer would not."""


def take_answer(times: Sequence[float], payloads: Sequence[bytes], record: Record) -> None:
    """Fill `record` from the events of a streamed answer and the times at which each was complete.

    Raises BrokenStreamError; what was known by then is in `record`.
    """
    stamps, done = record.chunk_s, False
    inside = payloads[EDGE:-EDGE]
    # The inside at once: the ends hold whatever is not plain text.
    plain = len(inside) if inside and _texts(b"\n".join(inside)) == len(inside) else 0
    for n, payload in enumerate(payloads):
        if EDGE <= n < EDGE + plain:
            if n == EDGE:
                stamps += times[EDGE : EDGE + plain]
        elif (stamps and _texts(payload) == 1) or _take_event(payload, record):
            stamps.append(times[n])
        elif payload == DONE:
            done = True
    if not done:
        raise BrokenStreamError("the stream ended before [DONE]")
    if not stamps:
        raise BrokenStreamError("the answer carried no text")
    record.first_token_s, record.last_token_s = stamps[0], stamps[-1]


def text_of(payloads: Iterable[bytes]) -> str:
    """What was said: the content of all events of a complete answer."""
    texts = []
    for payload in payloads:
        if payload != DONE:
            for choice in json.loads(payload).get("choices") or ():
                texts.append((choice.get("delta") or {}).get("content") or "")
    return "".join(texts)


def _texts(data: bytes) -> int:
    """Events in `data` that carry text, if there is nothing else to know: by counting only, a tenth
    of what parsing costs. 0 where that cannot be told so.

    Keys are counted as engines write them; quotes inside a text are escaped, so that nothing in it
    is taken for a key.
    """
    texts = data.count(b'"content":"') - data.count(b'"content":""')
    if b'"reasoning' in data:
        texts += data.count(b'"reasoning_content":"') - data.count(b'"reasoning_content":""')
        texts += data.count(b'"reasoning":"') - data.count(b'"reasoning":""')
    news = b'"error"' in data or b'"usage":{' in data or b'"tool_calls":[' in data or DONE in data
    return 0 if news else texts


def server_words(body: bytes) -> str:
    """The message of an OpenAI-style error body, else its beginning."""
    text = body.decode("utf-8", "replace")
    try:
        error = json.loads(text)["error"]
        text = error["message"] if isinstance(error, dict) else str(error)
    except (ValueError, KeyError, TypeError):
        pass
    return " ".join(str(text).split())[:300]


def _take_event(payload: bytes, record: Record) -> bool:
    """Note usage and errors of one event; whether it carries generated text."""
    if payload == DONE:
        return False
    try:
        event = json.loads(payload)
        if error := event.get("error"):
            raise BrokenStreamError(f"the server sent an error: {str(error)[:300]}")
        if usage := event.get("usage"):
            _take_usage(usage, record)
        choices = event.get("choices") or ()
        return any(_carries_text(choice.get("delta") or {}) for choice in choices)
    except ValueError:
        raise BrokenStreamError(f"an event is not JSON: {payload[:100]!r}") from None
    except (AttributeError, TypeError):
        raise BrokenStreamError(f"an event is no chat chunk: {payload[:100]!r}") from None


def _carries_text(delta: dict[str, Any]) -> bool:
    # A chunk with only the role, or with empty text, is not a token.
    return any(delta.get(k) for k in ("content", "reasoning", "reasoning_content", "tool_calls"))


def _take_usage(usage: dict[str, Any], record: Record) -> None:
    record.prompt_tokens = usage.get("prompt_tokens")
    record.output_tokens = usage.get("completion_tokens")
    # Without --enable-prompt-tokens-details the block is null: unknown, not 0.
    record.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
