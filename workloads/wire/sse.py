"""Server-sent events: the bytes of a body → the data of each event, and where it ends. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

LINE = re.compile(rb"([^\r\n]*)(\r\n|\r|\n|\Z)")
Events = tuple[list[int], list[bytes]]
"""Of each event: how many bytes of the body had to arrive for its data, and the data."""


def events(body: bytes, complete: bool = True) -> Events:
    """The events of a body (WHATWG HTML, section 9.2). `complete`: nothing more comes, so that an
    event whose empty line was left out counts, too."""
    plain = _plain(body)
    if plain is not None:
        ends, end = [], -2
        for payload in plain:
            end += len(payload) + 8  # an empty line before it, "data: ", and itself
            ends.append(end)
        return ends, plain
    if (named := _named(body)) is not None:
        return named
    found = [event for event in _blocks(body, complete) if event is not None]
    return [end for end, _ in found], [payload for _, payload in found]


def _plain(body: bytes) -> list[bytes] | None:
    """The payloads of a body with one line of data in each event, as engines write them: told by
    counting, split at once. None for any other body."""
    if body.startswith(b"data: ") and body.endswith(b"\n\n") and b"\r" not in body:
        payloads = body[6:-2].split(b"\n\ndata: ")
        if body.count(b"\n") == 2 * len(payloads):
            return payloads
    return None


def _named(body: bytes) -> Events | None:
    """The same for a body whose every event has a name before its line of data, as at /v1/messages
    and /v1/responses."""
    if not (body.startswith(b"event: ") and body.endswith(b"\n\n")) or b"\r" in body:
        return None
    blocks = body[:-2].split(b"\n\n")
    if body.count(b"\n") != 3 * len(blocks) or body.count(b"\ndata: ") != len(blocks):
        return None
    if b"event: error\n" in body:
        return None
    ends, payloads, end = [], [], -2
    for block in blocks:
        end += len(block) + 2
        ends.append(end)
        payloads.append(block.partition(b"\ndata: ")[2])
    return ends, payloads


def _blocks(body: bytes, complete: bool) -> Iterator[tuple[int, bytes] | None]:
    lines: list[tuple[int, bytes]] = []
    for match in LINE.finditer(body):
        line, ending = match.groups()
        if line:
            lines.append((match.end(1), line))
        elif ending and lines:
            yield _event(lines)
            lines = []
    if complete and lines:
        yield _event(lines)


def _event(lines: list[tuple[int, bytes]]) -> tuple[int, bytes] | None:
    data = [(end, x[5:].removeprefix(b" ")) for end, x in lines if x.startswith(b"data:")]
    payload = b"\n".join(x for _, x in data)
    if any(x.startswith(b"event:") and x[6:].strip() == b"error" for _, x in lines):
        return lines[-1][0], _error(payload, [x for _, x in lines])
    return (data[-1][0], payload) if data else None


def _error(payload: bytes, lines: list[bytes]) -> bytes:
    """An event that is called an error, whatever it holds: NVIDIA Dynamo puts the words of one into
    a comment."""
    said = payload or b" ".join(x[1:].strip() for x in lines if x.startswith(b":"))
    if b'"error"' in said:
        return said
    try:
        words = json.loads(said)
    except ValueError:
        words = said.decode("utf-8", "replace")
    return json.dumps({"error": words or "an error without words"}).encode()
