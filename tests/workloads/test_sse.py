from __future__ import annotations

import json

import pytest

from aot.workloads.wire.record import Record, RecordHeader
from aot.workloads.wire.record_lines import RecordLines
from aot.workloads.wire.sse import EventParser, events

STREAM = (
    b'data: {"a":1}\r\n\r\n: a comment\n\ndata:two\n\n'
    b"event: x\ndata: 3\ndata: 4\n\ndata: [DONE]\n\n"
)
EVENTS = [b'{"a":1}', b"two", b"3\n4", b"[DONE]"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    parser, found = EventParser(), []
    for start in range(0, len(STREAM), size):
        found += parser.feed(STREAM[start : start + size])
    assert found == EVENTS


@pytest.mark.parametrize(
    "body",
    [
        STREAM,
        b"data: a\n\ndata: b\n\n",
        b"data: a\ndata: b\n\ndata: c\n\n",
        b"data: a\n: a comment\n\n",
        b"data: a\n\n\ndata: b\n\n",
        b"data: a\n\nevent: x\ndata: b\n\n",
        b"data: a\n\ndata:b\n\n",
        b"data: a\n\ndata: cut",
        b"data: \n\n",
        b"",
    ],
)
def test_a_whole_body_has_the_events_of_its_pieces(body: bytes) -> None:
    assert events(body) == EventParser().feed(body)


def test_an_event_is_complete_only_with_its_empty_line() -> None:
    parser = EventParser()
    assert parser.feed(b"data: x\n") == []
    assert parser.feed(b"\n") == [b"x"]


def test_a_record_file_cut_off_while_writing_loses_one_line() -> None:
    header = RecordHeader("aot", 1, 0, "2026-01-01T00:00:00+00:00", 5.0, "abc").to_line()
    record = Record("r1", "aot", 1, "t", "p", 0.5, 0.6).to_line()
    lines = RecordLines()
    rows = lines.read((header + record + record[:25]).encode(), "requests-0.jsonl")
    assert lines.hashes == {"abc"}
    assert [(r.id, r.sent_s, r.cached_tokens) for r in rows] == [("r1", 0.6, None)]
    assert lines.broken == 1


def test_a_record_is_read_as_it_was_written() -> None:
    """Every field of Record, whatever it is called."""
    whole = Record(
        "r1", "aot", 2, "t", "p", 0.5, 0.6, 0.7, 0.9, [0.7, 0.9], 12, 8, 2, 200, "late", "Yes."
    )
    (read,) = RecordLines().read(whole.to_line().encode(), "requests-0.jsonl")
    for name in Record.__dataclass_fields__:
        value = getattr(read, name)
        assert getattr(whole, name) == (json.loads(bytes(value)) if name == "chunk_s" else value)
