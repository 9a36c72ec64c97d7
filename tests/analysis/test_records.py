"""Records are read in batches; where one ends must not show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from aot.analysis.measures import metrics
from aot.analysis.runs import record_store, records
from aot.workloads.wire.record import Record, RecordHeader

CHUNKS = [[1.0, 1.5, 1.75], [], [3.0], [4.0, 4.25], [], [6.0, 7.0, 7.5, 7.6]]
GAPS = [0.5, 0.25, 0.25, 1.0, 0.5, 0.1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    header = RecordHeader("aot", 1, 0, "2026-01-01T00:00:00+00:00", 0.0, "abc").to_line()
    made = [
        Record(f"r{n}", "aot", 1, "t", "p", 0.0, 0.5, times[0], times[-1], times, 9, 8, len(times))
        if times
        else Record(f"r{n}", "aot", 1, "t", "p", 0.0, 0.5, error="x")
        for n, times in enumerate(CHUNKS)
    ]
    text = header + "".join(r.to_line() for r in made)
    (tmp_path / "requests-0.jsonl").write_text(text + '{"id":"r9","sent_s":1')
    return tmp_path


@pytest.mark.parametrize("size", [1, 7, 100, 200, 300, 400, 600, 10_000])
def test_batches_do_not_show(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(records, "BATCH_BYTES", size)
    path = tmp_path / "records.parquet"
    with record_store.writing(path) as keep:
        found = records.read(folder, "aot", 1, "s", keep)
    assert found.gaps_s.tolist() == pytest.approx(GAPS)
    assert found.frame["gaps"].tolist() == [2, 0, 0, 1, 0, 3]
    assert found.frame["id"].tolist() == [f"r{n}" for n in range(6)]
    assert (found.broken_lines, found.schedule_hashes, found.foreign) == (1, {"abc"}, [])
    assert [list(c) for c in pq.read_table(path)["chunk_s"].to_pylist()] == CHUNKS


def test_gaps_belong_to_their_requests(folder: Path) -> None:
    found = records.read(folder, "aot", 1, "s")
    frame = metrics.derive(found.frame)
    rows = frame["id"].isin(["r0", "r1", "r5"])
    gaps = metrics.inter_token_latencies(frame, found.gaps_s, rows)
    assert gaps.tolist() == pytest.approx([0.5, 0.25, 1.0, 0.5, 0.1])


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    path.write_text("old")
    with pytest.raises(KeyError), record_store.writing(path):
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_no_record_is_a_file_without_rows(tmp_path: Path) -> None:
    with record_store.writing(tmp_path / "records.parquet"):
        pass
    table = pq.read_table(tmp_path / "records.parquet")
    assert table.num_rows == 0
    assert table.schema.names == records.SCHEMA.names
    assert np.array_equal(records.empty().columns, records.FRAME_COLUMNS)
