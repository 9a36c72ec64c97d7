"""Rows of logs: what was sent is found in whatever is around it, and nothing in it is changed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aot.configs.kernel.errors import UsageError
from aot.workloads.logs import bodies
from aot.workloads.logs.file import Rows
from aot.workloads.logs.interned import Interned
from aot.workloads.logs.traced import Traced
from aot.workloads.traces import chats, formats

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}
MESSAGES = {"model": "m", "max_tokens": 9, "system": "be", "messages": CHAT["messages"]}
COMPLETION = {"model": "m", "prompt": "hi", "echo": True}
RESPONSE = {"model": "m", "instructions": "be", "input": "hi", "store": False}
PART = [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
NOON = 1767268800.0


@pytest.mark.parametrize(
    ("row", "endpoint", "body", "at_s", "duration_s"),
    [
        (CHAT, "chat", CHAT, None, None),
        ({**CHAT, "timestamp": 3}, "chat", CHAT, 3.0, None),
        ({"ts": "2026-01-01T12:00:00Z", "body": CHAT, "latency_ms": 1500}, "chat", CHAT, NOON, 1.5),
        ({"time": NOON * 1000, "request": json.dumps(CHAT)}, "chat", CHAT, NOON, None),
        ({"custom_id": "a", "url": "/v1/responses", "body": RESPONSE}, "responses", RESPONSE, None,
         None),
        ({"start_time": NOON, "end_time": NOON + 2, "kwargs": COMPLETION}, "completions",
         COMPLETION, NOON, 2.0),
        ({"request_body": MESSAGES, "request_created_at": "2026-01-01T12:00:00+00:00"}, "messages",
         MESSAGES, NOON, None),
        ({"startTime": "2026-01-01T12:00:00", "messages": json.dumps(CHAT["messages"]),
          "model": "m", "call_type": "acompletion", "spend": 0.1}, "chat",
         {"model": "m", "messages": CHAT["messages"]}, NOON, None),
        ({"startTimeUnixNano": str(int(NOON * 1e9)), "endTimeUnixNano": str(int(NOON * 1e9 + 5e8)),
          "attributes": {"gen_ai.request.model": "m", "gen_ai.input.messages": json.dumps(PART)}},
         "chat", {"model": "m", "messages": CHAT["messages"]}, NOON, 0.5),
        ({"attributes": [{"key": "gen_ai.prompt", "value": {"stringValue": json.dumps(PART)}}]},
         "chat", {"messages": CHAT["messages"]}, None, None),
        ({"traceId": "t", "model": "m", "input": CHAT["messages"], "startTime": NOON,
          "modelParameters": {"temperature": 0.5}}, "chat", CHAT, NOON, None),
    ],
)  # fmt: skip
def test_a_request_is_found(
    row: dict[str, Any], endpoint: str, body: dict[str, Any], at_s: float | None,
    duration_s: float | None,
) -> None:  # fmt: skip
    found = bodies.found(row)
    assert (found.endpoint, found.body) == (endpoint, body)
    assert found.at_s == pytest.approx(at_s)
    assert found.duration_s == pytest.approx(duration_s)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2,
          "prompt_tokens_details": {"cached_tokens": 4}}, (9, 4, 2)),
        ({"input_tokens": 3, "cache_read_input_tokens": 5, "cache_creation_input_tokens": 1,
          "output_tokens": 2}, (9, 5, 2)),
        ({}, (None, None, None)),
    ],
)  # fmt: skip
def test_what_the_server_reported_is_kept(
    usage: dict[str, Any], counts: tuple[int | None, ...]
) -> None:
    found = bodies.found({"body": CHAT, "response": {"body": {"usage": usage}}})
    assert (found.prompt_tokens, found.cached_tokens, found.output_tokens) == counts


def test_a_wrapped_body_keeps_fields_that_are_a_logs_own_elsewhere() -> None:
    body = {**CHAT, "time": "now", "latency": 3}
    assert bodies.found({"time": 1, "body": body}).body == body
    assert bodies.found({**body, "time": 1}).body == CHAT


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"a": 1}, "field 'messages' is missing, and so are 'prompt' and 'input'"),
        ({"url": "/v1/embeddings", "body": {"input": "hi"}}, "no endpoint that generates text"),
        ({"url": "/v1/responses", "body": CHAT}, "field 'input' is missing or no list"),
        ({"url": "/generate", "body": {"input_ids": [1]}}, "field 'text' is no text"),
        ({"messages": "[{"}, "field 'messages' is a text that is not JSON"),
        ({"messages": [{"role": 3}]}, "messages[0].role is no text"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "messages[0].content is no text"),
        ({"messages": [{"role": "user", "content": "\ud800 ä"}]}, "half a character"),
        ({"prompt": [1, 2]}, "field 'prompt' is no text"),
        ({**CHAT, "tools": "t"}, "field 'tools' is no list"),
        ({**CHAT, "timestamp": "noon"}, "field 'timestamp' is 'noon', expected seconds"),
        ({"attributes": {"gen_ai.input.messages": "x"}}, "gen_ai.input.messages is not JSON"),
        ({"attributes": {"gen_ai.input.messages": ["x"]}}, "is no list of objects"),
        ({"attributes": {"gen_ai.prompt": [{"role": "user", "parts": "x"}]}}, "parts of gen_ai"),
        ({"attributes": {"gen_ai.prompt": PART, "gen_ai.usage.input_tokens": None}}, "is None"),
        ({"modelParameters": "x", "input": "hi"}, "'modelParameters' is no object"),
    ],
)
def test_what_is_no_request_names_the_field(row: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=r".+") as raised:
        bodies.found(row)
    assert words in str(raised.value)


def read(path: Path) -> list[Traced]:
    return list(formats.read(Rows(path), formats.detect(path)))


ROWS = [{"timestamp": n, "body": CHAT} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def shards(path: Path) -> Path:
    path.mkdir()
    (path / "b.jsonl").write_text(json.dumps(ROWS[2]))
    (path / "a.jsonl").write_text(LINES[: LINES.index("\n", LINES.index("\n") + 1)])
    (path / "_SUCCESS").write_text("")
    return path


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logs/a.jsonl", LINES)
    return path


def parquet(path: Path) -> Path:
    columns = {"timestamp": [0, 1, 2], "body": [json.dumps(CHAT)] * 3}
    pq.write_table(pa.table(columns), path)
    return path


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("how", ["lines", "array", "pretty", "shards", "zip", "parquet"])
def test_rows_are_found_in_whatever_they_are_packed(tmp_path: Path, how: str) -> None:
    path = tmp_path / how
    match how:
        case "shards":
            shards(path)
        case "zip":
            zipped(path)
        case "parquet":
            parquet(path)
        case _:
            pretty = "\n".join(json.dumps(row, indent=1) for row in ROWS)
            written(path, {"lines": LINES, "array": json.dumps(ROWS), "pretty": pretty}[how])
    found = read(path)
    assert [r.at_s for r in found] == [0.0, 1.0, 2.0]
    assert all(r.body == CHAT for r in found)


def test_a_bad_row_of_a_shard_is_named_by_its_file(tmp_path: Path) -> None:
    folder = shards(tmp_path / "logs")
    (folder / "c.jsonl").write_text('{"timestamp": 5, "body": {"messages": 3}}\n')
    with pytest.raises(UsageError, match=r"logs/c.jsonl:1: field 'messages' is missing or no list"):
        read(folder)
    rows = Rows(folder, skip_bad=True)
    assert len(list(formats.read(rows, formats.detect(folder)))) == 3
    assert rows.skipped == 1


def test_a_folder_without_a_log_says_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("hi")
    with pytest.raises(UsageError, match=r"no file in it that could be a log \(.jsonl"):
        read(tmp_path)


def test_conversations_lines_and_trajectories(tmp_path: Path) -> None:
    said = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b c"}]}
    (turn,) = read(written(tmp_path / "s", json.dumps(said) + "\n"))
    assert (turn.messages[0]["content"], turn.answer) == ("a", "b c")
    trajectory = {"id": "t", "messages": [
        {"role": "user", "content": "u"}, {"role": "assistant", "content": "x"},
        {"role": "tool", "content": "r"}, {"role": "assistant", "content": "y"},
    ]}  # fmt: skip
    turns = read(written(tmp_path / "t", json.dumps(trajectory) + "\n"))
    assert [(len(t.messages), t.answer, t.session) for t in turns] == [(1, "x", "t"), (3, "y", "t")]


def test_aiperfs_rows_have_milliseconds_lengths_and_delays(tmp_path: Path) -> None:
    row = {"session_id": "s", "messages": CHAT["messages"], "output_length": 7}
    rows = [{**row, "timestamp": 1000}, {**row, "delay": 2000}]
    first, second = read(written(tmp_path / "a", "".join(json.dumps(r) + "\n" for r in rows)))
    assert (first.at_s, first.session, first.output_tokens) == (1.0, "s", 7)
    assert first.body == {"messages": CHAT["messages"], "max_tokens": 7}
    assert second.think_s == 2.0


def session(requests: list[dict[str, Any]], **more: object) -> str:
    given = {"id": "s", "block_size": 64, "hash_id_scope": "local", "requests": requests} | more
    return json.dumps(given) + "\n"


def call(t: float, *ids: int, tokens: int = 0) -> dict[str, Any]:
    return {"t": t, "in": tokens or 64 * len(ids), "out": 3, "hash_ids": list(ids),
            "api_time": 2.0, "think_time": 1.0}  # fmt: skip


def test_a_session_with_a_subagent_is_in_order_of_time(tmp_path: Path) -> None:
    agent = {
        "t": 8.0,
        "type": "subagent",
        "agent_id": "a",
        "requests": [call(0.0, 9), call(3.0, 9)],
    }
    text = session([call(0.0, 1, 2), agent, call(9.0, 1, 2, 3)])
    path = written(tmp_path / "w", text)
    assert formats.detect(path).block_tokens == 64
    found = read(path)
    assert [(r.at_s, r.session) for r in found] == [
        (0.0, "s"), (8.0, "s/a"), (9.0, "s"), (11.0, "s/a"),
    ]  # fmt: skip
    assert found[0].blocks == [("s", 1), ("s", 2)]
    assert (found[0].duration_s, found[0].think_s) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (session([call(0.0, 1)], hash_id_scope="world"), "field 'hash_id_scope' is 'world'"),
        (session([{"t": 0.0}]), "field 'hash_ids' is missing"),
        (session([], block_size="x"), "field 'block_size'"),
        (session(3), "field 'requests' is no list"),  # type: ignore[arg-type]
    ],
)
def test_a_session_that_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path / "w", text)
    with pytest.raises(UsageError, match=r"w:1: ") as raised:
        read(path)
    assert words in str(raised.value)


def hashed(tokens: int, ids: int) -> str:
    row = {"timestamp": 0, "input_length": tokens, "output_length": 1, "hash_ids": [*range(ids)]}
    return json.dumps(row) + "\n"


def test_the_size_of_blocks_is_the_files_own(tmp_path: Path) -> None:
    path = written(tmp_path / "m", hashed(1000, 63) + hashed(40, 3))
    assert formats.detect(path).block_tokens == 16
    assert formats.detect(written(path, hashed(1000, 2))).block_tokens == 512
    odd = written(tmp_path / "odd", hashed(1000, 40) + hashed(1000, 63))
    with pytest.raises(UsageError, match=r"1000 tokens has 40 block ids.*--block-size N"):
        formats.detect(odd)
    assert formats.sized(formats.FORMATS["mooncake"], path, 999).block_tokens == 999
    assert formats.sized(formats.FORMATS["mooncake"], path, 1024).block_tokens == 512


def test_a_conversation_is_held_once() -> None:
    """Equal parts of many bodies are one object; what is only alike is not (1, 1.0 and true)."""
    history = [{"role": "user", "content": "q" * 50}, {"role": "assistant", "content": "a" * 50}]
    rows = [
        {"messages": json.loads(json.dumps(history[:n])), "tools": [{"type": "x", "n": number}]}
        for n, number in ((1, 1), (2, 1), (2, 1.0), (2, True))
    ]
    parts = Interned()
    held = [parts.request(chats.of_body(1, bodies.found(row))) for row in rows]
    assert [json.dumps(h.body) for h in held] == [json.dumps(r) for r in rows]
    assert len({id(h.messages[0]) for h in held}) == 1
    assert [h.body["tools"] is held[0].body["tools"] for h in held] == [True, True, False, False]  # type: ignore[index]
