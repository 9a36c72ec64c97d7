"""The records of one phase, as far as they can be read; what cannot is counted, never guessed.

Files may hold a million records with a hundred times each: they are read line by line, and the
times of chunks are not kept but handed on (`Keep`), and summarised as the gaps between them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa

from workloads.record import FORMAT, Record

BATCH = 20_000
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


class Line(msgspec.Struct):
    """The shape that Record.to_line gives a record."""

    id: str
    arm: str
    repeat: int
    sent_s: float | None
    chunk_s: list[float]
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

    def lines(self, path: Path) -> Iterator[Line]:
        decode = msgspec.json.Decoder(Line).decode
        with path.open("rb") as file:
            for raw in file:
                try:
                    line = decode(raw)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    if self._header(raw, path.name):
                        continue
                    if self.foreign and self.foreign[-1].startswith(path.name):
                        return
                    self.broken += 1
                    continue
                if (line.arm, line.repeat) == self._mine:
                    yield line
                else:
                    self.broken += 1

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


def read(folder: Path, arm: str, repeat: int, server: str, keep: Keep | None = None) -> Records:
    """All record files of the phase whose folder of records this is."""
    reader = _Reader(arm, repeat)
    lines = chain.from_iterable(reader.lines(p) for p in sorted(folder.glob("requests-*.jsonl")))
    frames, gaps = [], []
    while batch := list(islice(lines, BATCH)):
        table, between, counts = _table(batch, server)
        if keep is not None:
            keep(table)
        frames.append(table.drop_columns(["chunk_s"]).to_pandas().assign(gaps=counts))
        gaps.append(between)
    frame = pd.concat(frames, ignore_index=True) if frames else empty()
    gaps_s = np.concatenate(gaps) if gaps else np.array([], dtype=np.float32)
    zero_s = reader.clock_zero_s
    return Records(frame, gaps_s, reader.broken, reader.hashes, reader.foreign, zero_s)


def empty() -> pd.DataFrame:
    """No records, with the columns and types that some have."""
    schema = SCHEMA.remove(SCHEMA.get_field_index("chunk_s"))
    frame: pd.DataFrame = schema.empty_table().to_pandas()
    return frame.assign(gaps=np.array([], dtype=np.int64))


def _table(batch: list[Line], server: str) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    """The batch in SCHEMA; the gaps between chunks, in seconds; how many each record has."""
    counts = np.fromiter((len(line.chunk_s) for line in batch), np.int64, len(batch))
    ends = np.cumsum(counts)
    times = np.fromiter(
        chain.from_iterable(line.chunk_s for line in batch), np.float64, int(ends[-1])
    )
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    columns = {
        "server": pa.array([server] * len(batch), pa.string()),
        "chunk_s": pa.ListArray.from_arrays(offsets, pa.array(times)),
    }
    for field in SCHEMA:
        if field.name not in columns:
            values = [getattr(line, field.name) for line in batch]
            columns[field.name] = pa.array(values, field.type)
    within = np.ones(max(len(times) - 1, 0), dtype=bool)
    between = ends[(ends > 0) & (ends < len(times))] - 1  # from one request to the next
    within[between] = False
    table = pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)
    return table, np.diff(times)[within].astype(np.float32), np.maximum(counts - 1, 0)
