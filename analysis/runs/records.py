"""The records of one phase, as far as they can be read; what cannot is counted, never guessed.

Files may hold a million records with a hundred times each: they are read line by line, and the
times of chunks are not kept but handed on (`Keep`), and summarised as the gaps between them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, compress
from operator import attrgetter
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from aot.analysis.runs import chunk_times
from aot.workloads.wire.record import FORMAT, Record

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


class Line(msgspec.Struct, gc=False):
    """The shape that Record.to_line gives a record."""

    id: str
    arm: str
    repeat: int
    sent_s: float | None
    chunk_s: msgspec.Raw
    tenant: str | None = None
    prefix: str | None = None
    planned_s: float | None = None
    first_token_s: float | None = None
    last_token_s: float | None = None
    prompt_tokens: float | None = None
    cached_tokens: float | None = None
    output_tokens: float | None = None
    status: float | None = None
    error: str | None = None
    answer: str | None = None


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
    """Lines of record files, one by one; and what is to be said of those that are none."""

    def __init__(self, arm: str, repeat: int) -> None:
        self._mine = (arm, repeat)
        self.hashes: set[str] = set()
        self.broken = 0
        self.foreign: list[str] = []
        self.clock_zero_s: float | None = None

    def batches(self, path: Path) -> Iterator[list[Line]]:
        """The records of one file, in its order."""
        decode = msgspec.json.Decoder(Line).decode_lines
        for piece in _pieces(path):
            try:
                lines = decode(piece)
            except (msgspec.DecodeError, UnicodeDecodeError):
                lines = self._one_by_one(piece, path.name)
            mine = [line for line in lines if (line.arm, line.repeat) == self._mine]
            self.broken += len(lines) - len(mine)
            yield mine
            if self.foreign and self.foreign[-1].startswith(path.name):
                return

    def _one_by_one(self, piece: bytes, name: str) -> list[Line]:
        """The records of a piece that has other lines, too."""
        decode, found = msgspec.json.Decoder(Line).decode, []
        for raw in piece.split(b"\n"):
            try:
                found.append(decode(raw))
            except (msgspec.DecodeError, UnicodeDecodeError):
                if not self._header(raw, name):
                    if self.foreign and self.foreign[-1].startswith(name):
                        break
                    self.broken += 1
        return found

    def chunks(self, batch: list[Line]) -> tuple[list[Line], np.ndarray, np.ndarray]:
        """Those whose chunks have times, with all these times and how many each record has."""
        texts = [bytes(line.chunk_s) for line in batch]
        if (found := chunk_times.flat(texts)) is None:
            whole = [chunk_times.flat([text]) is not None for text in texts]
            batch, texts = list(compress(batch, whole)), list(compress(texts, whole))
            self.broken += whole.count(False)
            found = chunk_times.flat(texts)
        assert found is not None  # each of them is
        return batch, *found

    def _header(self, raw: bytes, name: str) -> bool:
        """Whether the line is a header of ours; one of another format is noted."""
        try:
            row = json.loads(raw)
        except ValueError:
            return False
        named = row.get("format") if isinstance(row, dict) else None
        if named == FORMAT:
            self.hashes.add(str(row.get("schedule_sha256")))
            zero = row.get("clock_zero_monotonic_s")
            self.clock_zero_s = zero if isinstance(zero, float) else None
        elif named is not None:
            self.foreign.append(f"{name} has format '{named}', this version reads '{FORMAT}'")
        return bool(named == FORMAT)


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
    gaps_s, zero_s = np.frombuffer(gaps, np.float32), reader.clock_zero_s
    return Records(frame, gaps_s, reader.broken, reader.hashes, reader.foreign, zero_s)


def empty() -> pd.DataFrame:
    """No records, with the columns and types that some have."""
    schema = SCHEMA.remove(SCHEMA.get_field_index("chunk_s"))
    frame: pd.DataFrame = schema.empty_table().to_pandas()
    return frame.assign(gaps=np.array([], dtype=np.int64))


def _table(
    lines: list[Line], times: np.ndarray, counts: np.ndarray, server: str
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
