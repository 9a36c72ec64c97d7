"""A tokenizer of one token a word, so that every length can be worked out."""

from __future__ import annotations

import re
from zlib import crc32

from aot.workloads.requests.request import Message, Tools

PIECE = re.compile(r"\n\n|\n| ?\w+|[^\w\s]| ")


def encode(messages: list[Message], tools: Tools = ()) -> list[int]:
    """<role> content <end> of each message, <assistant> at the end; words are one token each."""
    text: list[str] = []
    for message in messages:
        text += [f"<{message['role']}>", *PIECE.findall(message["content"]), "<end>"]
    return [crc32(word.encode()) for word in [*text, "<assistant>"]]


def merging(messages: list[Message], tools: Tools = ()) -> list[int]:
    """Two words in a row are sometimes one token: lengths do not add up."""
    found: list[int] = []
    for id_ in encode(messages, tools):
        if found and (found[-1] + id_) % 7 == 0:
            found[-1] = found[-1] ^ id_
        else:
            found.append(id_)
    return found
