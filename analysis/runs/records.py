"""The records of one phase, as far as they can be read; what cannot is counted, never guessed.

Files may hold a million records with a hundred times each: they are read line by line, and the
times of chunks are not kept but handed on (`Keep`), and summarised as the gaps between them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, compress
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from aot.analysis.runs import chunk_times
from aot.workloads.wire.record import Record
from aot.workloads.wire.record_lines import RecordLines

BATCH_BYTES = 4_000_000
"""Of a record file, read at once."""
NUMBERS = (
    "planned_s", "sent_s", "first_token_s", "last_token_s", "prompt_tokens", "cached_tokens",
    "output_tokens", "status",
)  # fmt: skip
TYPES = {"repeat": pa.int64(), "chunk_s": pa.list_(pa.float64())}
SCHEMA = pa.schema(
    [("server", pa.string())]
    + [
        (name, TYPES.get(name, pa.float64() if name in NUMBERS else pa.string()))
        for name in Record.__dataclass_fields__
    ]
)
"""records.parquet: every fact of every record."""
FRAME_COLUMNS = [name for name in SCHEMA.names if name != "chunk_s"] + ["gaps"]

Keep = Callable[[pa.Table], None]
"""Is given all records, batch by batch, in SCHEMA."""


@dataclass(frozen=True, slots=True)
class Records:
    """`frame`: FRAME_COLUMNS, one row a request. `gaps_s`: the times between chunks with text of
    all requests, one after the other, as many of each as its column `gaps` says."""

    frame: pd.DataFrame
    gaps_s: np.ndarray
    broken_lines: int
    schedule_hashes: set[str]
    """What the record files say they replayed."""
    foreign: list[str]
    """Files of another format, of which nothing was read, in words."""
    clock_zero_s: float | None = None
    """When the replay's clock started, on CLOCK_MONOTONIC of its machine."""


class _Reader:
    """The records of one phase, file by file."""

    def __init__(self, arm: str, repeat: int) -> None:
        self._mine = (arm, repeat)
        self.lines = RecordLines()

    def batches(self, path: Path) -> Iterator[list[Any]]:
        """The records of one file, in its order."""
        for piece in _pieces(path):
            lines = self.lines.read(piece, path.name)
            mine = [line for line in lines if (line.arm, line.repeat) == self._mine]
            self.lines.broken += len(lines) - len(mine)
            yield mine
            if self.lines.is_foreign(path.name):
                return

    def chunks(self, batch: list[Any]) -> tuple[list[Any], np.ndarray, np.ndarray]:
        """Those whose chunks have times, with all these times and how many each record has."""
        texts = [bytes(line.chunk_s) for line in batch]
        if (flat := chunk_times.flat(texts)) is None:
            whole = [chunk_times.flat([text]) is not None for text in texts]
            batch, texts = list(compress(batch, whole)), list(compress(texts, whole))
            self.lines.broken += whole.count(False)
            flat = chunk_times.flat(texts)
        assert flat is not None  # each of them is
        return batch, *flat


def _pieces(path: Path) -> Iterator[bytes]:
    """A file in pieces that end where a line ends."""
    with path.open("rb") as file:
        rest = b""
        while read := file.read(BATCH_BYTES):
            whole, newline, rest = (rest + read).rpartition(b"\n")
            if newline:
                yield whole
        if rest:
            yield rest


def read(folder: Path, arm: str, repeat: int, server: str, keep: Keep | None = None) -> Records:
    """All record files of the phase whose folder of records this is."""
    reader = _Reader(arm, repeat)
    files = sorted(folder.glob("requests-*.jsonl"))
    frames, gaps = [], bytearray()  # which grows without a copy
    for batch in chain.from_iterable(reader.batches(path) for path in files):
        table, between, counts = _table(*reader.chunks(batch), server)
        if keep is not None:
            keep(table)
        frames.append(table.drop_columns(["chunk_s"]).to_pandas().assign(gaps=counts))
        gaps += between.tobytes()
    frame = pd.concat(frames, ignore_index=True) if frames else empty()
    pa.default_memory_pool().release_unused()  # or what every batch took is kept for later ones
    gaps_s, seen = np.frombuffer(gaps, np.float32), reader.lines
    return Records(frame, gaps_s, seen.broken, seen.hashes, seen.foreign, seen.clock_zero_s)


def empty() -> pd.DataFrame:
    """No records, with the columns and types that some have."""
    schema = SCHEMA.remove(SCHEMA.get_field_index("chunk_s"))
    frame: pd.DataFrame = schema.empty_table().to_pandas()
    return frame.assign(gaps=np.array([], dtype=np.int64))


def _table(
    lines: list[Any], times: np.ndarray, counts: np.ndarray, server: str
) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """The records in SCHEMA; the gaps between chunks, in seconds; how many each record has."""
    ends = np.cumsum(counts)
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    columns = {
        "server": pa.array([server] * len(lines), pa.string()),
        "chunk_s": pa.ListArray.from_arrays(offsets, pa.array(times)),
    }
    for field in SCHEMA:
        if field.name not in columns:
            values = list(map(attrgetter(field.name), lines))
            columns[field.name] = pa.array(values, field.type)
    within = np.ones(max(len(times) - 1, 0), dtype=bool)
    between = ends[(ends > 0) & (ends < len(times))] - 1  # from one request to the next
    within[between] = False
    table = pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)
    return table, np.diff(times)[within].astype(np.float32), np.maximum(counts - 1, 0)
