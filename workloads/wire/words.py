"""What a server says where it does not answer: its own words, for the record."""

from __future__ import annotations

import json
import re

from aot.configs.dialects.dialect import WORDS, words_of
from aot.workloads.wire.answer import Answer

TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
HIDDEN = re.compile(r"<(script|style)\b.*?</\1>", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"<[^>]+>")


def of_body(body: bytes) -> str:
    """The message of an error body, the text of a page, else the beginning."""
    text = body.decode("utf-8", "replace")
    try:
        return words_of(json.loads(text))
    except ValueError:  # a page, or plain words
        return _of_page(text)


def _of_page(text: str) -> str:
    if "<html" in text[:1000].lower():
        title = TITLE.search(text)
        seen = TAG.sub(" ", HIDDEN.sub(" ", text))
        text = title[1] if title and title[1].strip() else seen
    return " ".join(text.split())[:WORDS]


def of_refusal(answer: Answer) -> str:
    """Of an answer whose status is not 200."""
    said = f"HTTP {answer.status}"
    if location := answer.headers.get("location"):
        said += f", which points to {location}"
    words = of_body(answer.body)
    return f"{said}: {words}" if words else said


def of_no_stream(answer: Answer) -> str:
    """Of an answer with status 200 in which there is no event."""
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if encoding := answer.headers.get("content-encoding"):
        kind += f", {encoding}"
    words = of_body(answer.body)
    return f"no stream but {kind or 'something else'}: {words or 'nothing'}"
