from __future__ import annotations

import json

import pytest

from aot.workloads.wire.record import Record, RecordHeader
from aot.workloads.wire.record_lines import RecordLines
from aot.workloads.wire.sse import events


@pytest.mark.parametrize(
    ("body", "payloads"),
    [
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data:a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\ndata: b\n\ndata: c\n\n", [b"a\nb", b"c"]),
        (b"data: a\n: a comment\n\n", [b"a"]),
        (b": a comment\n\ndata: a\n\n", [b"a"]),
        (b"data: a\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"event: x\nid: 7\ndata: b\n\n", [b"b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
        (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
        (b"data: a\r\n\rdata: b\n\r\n", [b"a", b"b"]),
        (b"event: error\ndata: x\n\n", [b'{"error": "x"}']),
        (b'event: error\ndata: {"error": 1}\n\n', [b'{"error": 1}']),
        (b"event: error\n: it is gone\n\n", [b'{"error": "it is gone"}']),
        (b"event: error\n\n", [b'{"error": "an error without words"}']),
        (b"id: 7\n\n", []),
        (b"data: \n\n", [b""]),
        (b"", []),
    ],
)
def test_the_events_of_a_body(body: bytes, payloads: list[bytes]) -> None:
    assert events(body)[1] == payloads
    assert events(body, complete=False)[1] == payloads


def test_an_event_without_its_empty_line_counts_when_nothing_more_comes() -> None:
    assert events(b"data: a\n\ndata: b", complete=False)[1] == [b"a"]
    assert events(b"data: a\n\ndata: b", complete=True)[1] == [b"a", b"b"]


@pytest.mark.parametrize("body", [b"data: a\n\ndata: bc\n\n", b": x\n\ndata: a\n\ndata: bc\n\n"])
def test_an_event_ends_where_its_data_does(body: bytes) -> None:
    """Not with its empty line, which some servers send with the next one."""
    ends, payloads = events(body)
    assert [body[:end].rpartition(b" ")[2] for end in ends] == payloads == [b"a", b"bc"]


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
        "r1", "aot", 2, "t", "p", 0.5, 0.6, 0.7, 0.9, [0.7, 0.9], 12, 8, 2, 200, "late", "Yes.",
        1, "stop", 2, True,
    )  # fmt: skip
    (read,) = RecordLines().read(whole.to_line().encode(), "requests-0.jsonl")
    for name in Record.__dataclass_fields__:
        value = getattr(read, name)
        assert getattr(whole, name) == (json.loads(bytes(value)) if name == "chunk_s" else value)
