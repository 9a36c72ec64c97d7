"""Traces of every format, in small samples of our own making; and what can be wrong with them."""

from __future__ import annotations

import gzip
import json
import random
import statistics
import tarfile
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from support.traces import (
    AZURE,
    BAILIAN,
    BURSTGPT,
    CODING,
    MOONCAKE,
    SAMPLES,
    SHAREGPT,
    lines,
    ragpulse,
)

from aot.configs.kernel.errors import UsageError
from aot.workloads.logs import rounded_times
from aot.workloads.logs.file import Rows
from aot.workloads.logs.traced import Traced
from aot.workloads.traces import formats as traces
from aot.workloads.traces.formats import FORMATS
from aot.workloads.traces.to_blocks import block_trace, part_blocks


def read(path: Path, name: str | None = None, skip_bad: bool | None = None) -> list[Traced]:
    chosen = FORMATS[name] if name else traces.detect(path)
    return list(traces.read(Rows(path, skip_bad), chosen))


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_every_format_is_known_by_its_first_line_however_packed(
    tmp_path: Path, name: str, packed: str
) -> None:
    data = SAMPLES[name].encode()
    if packed == "gzip":
        data = gzip.compress(data)
    elif packed == "zstd":
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(data)
        data = sink.getvalue().to_pybytes()
    path = tmp_path / "trace"
    path.write_bytes(data)
    assert traces.detect(path).name == name
    assert read(path)


def test_fields_mean_what_each_format_says(tmp_path: Path) -> None:
    def first(name: str) -> Traced:
        path = tmp_path / name
        path.write_text(SAMPLES[name])
        return read(path)[-1]

    made = first("mooncake")
    assert (made.at_s, made.input_tokens, list(made.blocks)) == (1.5, 700, [3, 9])
    made = first("bailian")
    assert (made.at_s, made.session, made.parent) == (2.5, "8", "7")
    made = first("coding")
    assert list(made.blocks) == [("s1", 1), ("s1", 2), ("s1", 8)]
    assert first("azure").input_tokens == 374
    assert first("azure").at_s == pytest.approx(1700158546.68059)
    made = first("burstgpt")
    assert (made.at_s, made.session, made.output_tokens) == (5.0, "abc", 18)
    made = first("sharegpt")
    assert [m["role"] for m in made.messages] == ["user", "assistant", "user"]
    assert first("openai").messages == ({"role": "user", "content": "Hi"},)
    assert first("openai").at_s == 4.0


def test_ragpulse_from_its_folder_its_file_and_an_archive(tmp_path: Path) -> None:
    data = ragpulse(tmp_path)
    archive = tmp_path / "r.tgz"
    with tarfile.open(archive, "w:gz") as made:
        made.add(data, "RAGPulse/data")
    for path in (data, data / "0_trace.jsonl", archive):
        (found,) = read(path)
        assert found.input_tokens == 150
        assert found.parts[0] == ("sys_prompt", 1, 10)
        assert [name for _, name, _ in found.parts] == [1, 2, 3, 4, 5]
    (data / "2_passages.jsonl").write_text("")
    with pytest.raises(UsageError, match="names 2, which no side file has"):
        read(data)


def test_blocks_of_parts_part_where_the_prompts_do() -> None:
    same = [("a", 1, 10), ("a", 2, 10)]
    first = part_blocks([*same, ("q", 7, 5)], 8)
    second = part_blocks([*same, ("q", 8, 30)], 8)
    assert len(first) == 4
    assert len(second) == 7
    assert first[:2] == second[:2]
    assert first[2] != second[2]
    assert part_blocks(same, 10) == part_blocks([*same, ("q", 9, 1)], 10)[:2]


BROKEN = {
    "mooncake": (MOONCAKE | {"input_length": 0}, "'input_length' is 0, expected an integer of 1"),
    "bailian": ({k: v for k, v in BAILIAN.items() if k != "hash_ids"}, "'hash_ids' is missing"),
    "coding": (CODING | {"hash_runs": [[1]]}, "'hash_runs' is no list of"),
    "openai": ({"messages": "hi"}, "'messages' is missing or no list"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_line_is_named_or_counted(tmp_path: Path, name: str) -> None:
    bad, words = BROKEN[name]
    path = tmp_path / "t.jsonl"
    path.write_text(SAMPLES[name] + lines(bad) + "{not json\n" + "[1]\n" + SAMPLES[name])
    number = SAMPLES[name].count("\n") + 1
    with pytest.raises(UsageError, match=f"t.jsonl:{number}: .*{words}.*--skip-bad"):
        read(path, skip_bad=False)
    rows = Rows(path, skip_bad=True)
    assert len(list(traces.read(rows, FORMATS[name]))) == 2 * SAMPLES[name].count("\n")
    assert rows.skipped == 3
    assert f"t.jsonl:{number}" in (rows.first_skipped or "")


def test_bad_rows_of_tables_and_arrays(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text(AZURE + "yesterday,1,1\n")
    with pytest.raises(UsageError, match="t:3: field 'TIMESTAMP' is 'yesterday'"):
        read(path)
    path.write_text(BURSTGPT + "6,abc,1.2,ChatGPT,many,18,490,Log\n")
    with pytest.raises(UsageError, match="t:3: field 'Request tokens' is 'many'"):
        read(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="t:1: no column 'TIMESTAMP'"):
        read(path, "azure")
    path.write_text(json.dumps(SHAREGPT)[:-9])
    with pytest.raises(UsageError, match="element 1: not JSON, or cut off"):
        read(path)
    path.write_text(json.dumps([*SHAREGPT, {"id": 1}, 5]))
    assert len(read(path, skip_bad=True)) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "its first line is empty"),
        (b'{"a": 1}\n', "no known trace format by its first line; say which: --format mooncake"),
        (b"\xff\xfe\n", "not UTF-8 .*save it as UTF-8"),
        (b"\x1f\x8bnot really gzip", "cannot be read"),
    ],
)
def test_files_that_are_no_trace(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "t"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=words):
        read(path)


def test_a_file_without_a_request(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_text("\n")
    with pytest.raises(UsageError, match="t: no request in it"):
        read(path, "mooncake")
    path.write_text("{}\n")
    with pytest.raises(UsageError, match=r"\(1 bad lines, the first: .*t:1: field"):
        read(path, "mooncake", skip_bad=True)
    with pytest.raises(UsageError, match="nowhere: no such file"):
        read(tmp_path / "nowhere", "mooncake")


def test_traces_without_prefixes_or_without_a_tokenizer_say_so(tmp_path: Path) -> None:
    for name, words in (("azure", "lengths and times only"), ("openai", "--model PATH")):
        path = tmp_path / name
        path.write_text(SAMPLES[name])
        with pytest.raises(UsageError, match=words):
            block_trace(traces.read(Rows(path), FORMATS[name]), FORMATS[name], None, None)


@pytest.mark.parametrize("name", ["mooncake", "sharegpt", "azure"])
def test_reading_holds_nothing(tmp_path: Path, name: str) -> None:
    """What is held does not grow with the file."""
    path = tmp_path / "t"
    if name == "sharegpt":
        turn = json.dumps(SHAREGPT[0] | {"id": "y" * 500})
        path.write_text("[" + ",\n".join([turn] * 5_000) + "]")
    elif name == "azure":
        path.write_text(AZURE + AZURE.splitlines()[1].join(["", "\n"]) * 20_000)
    else:
        path.write_text(lines(MOONCAKE | {"hash_ids": list(range(200))}) * 5_000)
    tracemalloc.start()
    count = sum(1 for _ in traces.read(Rows(path), FORMATS[name]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count >= 5_000
    assert peak < 2_000_000


def test_times_that_are_rounded_are_known_by_their_step() -> None:
    mooncake = [0.0] * 4 + [3.0] * 3 + [5.999] * 2 + [9.0] + [15.0] * 5
    assert rounded_times.step_s(mooncake) == 3.0
    assert rounded_times.step_s([1.7e9 + s for s in (0, 0, 1, 1, 1, 2, 2, 4, 4, 5)]) == 1.0
    sparse = [3.0 * n for n in (0, 0, 2, 2, 6, 15, 15, 19, 40, 41)]  # 3 s is not the commonest
    assert rounded_times.step_s(sparse) == 3.0
    assert rounded_times.step_s([n / 7 for n in range(12)]) is None  # all differ
    assert rounded_times.step_s([0.0, 0.0, 0.31, 0.7, 1.2, 1.9, 2.0, 2.4, 3.3, 3.31]) is None
    assert rounded_times.step_s([0.0] * 12) is None
    assert rounded_times.step_s(mooncake[:6]) is None


def test_rounded_times_are_spread_over_their_step_in_order() -> None:
    times = [0.0] * 200 + [3.0] * 100 + [9.0] * 200
    made = rounded_times.spread(times, 3.0, random.Random(1))
    assert made == sorted(made)
    assert all(t <= m < t + 3.0 for t, m in zip(times, made, strict=True))
    late = [m - t for t, m in zip(times, made, strict=True)]
    assert statistics.mean(late) == pytest.approx(1.5, abs=0.15)
