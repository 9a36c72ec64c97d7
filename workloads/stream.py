"""The streamed answer to one chat request → facts. Pure: what arrived, and when, is given.

Times were taken as each piece arrived; here events are told apart, and JSON is parsed only where
something must be known: the first text, usage, errors.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from workloads.record import Record
from workloads.sse import EventParser

DONE = b"[DONE]"
# A key with a text that is not empty. Inside a text quotes are escaped, so it is not found there.
TEXT = re.compile(
    rb'"(?:content|reasoning|reasoning_content)"\s*:\s*"[^"]|"tool_calls"\s*:\s*\[\s*\{'
)
USAGE = re.compile(rb'"usage"\s*:\s*\{')
ERROR = b'"error"'


class BrokenStreamError(Exception):
    """The answer ended or said something that a complete answer would not."""


def take_answer(pieces: Iterable[tuple[float, bytes]], record: Record) -> None:
    """Fill `record` from the pieces of a streamed answer. Raises BrokenStreamError."""
    parser, stamps, done = EventParser(), record.chunk_s, False
    for now, data in pieces:
        for payload in parser.feed(data):
            if payload == DONE:
                done = True
            elif (stamps and _is_more_text(payload)) or _take_event(payload, record):
                stamps.append(now)
    if not done:
        raise BrokenStreamError("the stream ended before [DONE]")
    if not stamps:
        raise BrokenStreamError("the answer carried no text")
    record.first_token_s, record.last_token_s = stamps[0], stamps[-1]


def _is_more_text(payload: bytes) -> bool:
    """Whether an event is one more like the first with text, with nothing else to know."""
    return (
        TEXT.search(payload) is not None and USAGE.search(payload) is None and ERROR not in payload
    )


def text_of(pieces: Iterable[tuple[float, bytes]]) -> str:
    """What was said: the content of all events of a complete answer."""
    parser = EventParser()
    found = []
    for _, data in pieces:
        for payload in parser.feed(data):
            if payload != DONE:
                for choice in json.loads(payload).get("choices") or ():
                    found.append((choice.get("delta") or {}).get("content") or "")
    return "".join(found)


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
