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
    "output_tokens", "hidden_tokens", "choices", "status", "cancelled_s",
)  # fmt: skip
TYPES = {"repeat": pa.int64(), "chunk_s": pa.list_(pa.float64()), "resent": pa.bool_()}
SCHEMA = pa.schema(
    [("server", pa.string())]
    + [
        (name, TYPES.get(name, pa.float64() if name in NUMBERS else pa.string()))
        for name in Record.__dataclass_fields__
    ]
)
"""records.parquet: every fact of every record."""
OF_CHUNKS = {
    "gaps": np.int64, "reads": np.int64, "first_chunk_s": float, "last_chunk_s": float,
    "least_gap_s": float,
}  # fmt: skip
"""What is kept of the times of a record's chunks: how many lie between two of them, in how many
reads they came (those of one read have one time), the first, the last, and the shortest time
between two; NaN where there is none."""
FRAME_COLUMNS = [*(name for name in SCHEMA.names if name != "chunk_s"), *OF_CHUNKS]

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
    headless: list[str]
    """Files whose records no header ties to a replay."""
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
        whole, times, counts = reader.chunks(batch)
        table, between = _table(whole, times, counts, server)
        if keep is not None:
            keep(table)
        facts = table.drop_columns(["chunk_s"]).to_pandas()
        frames.append(facts.assign(**_of_chunks(times, counts)))
        gaps += between.tobytes()
    frame = pd.concat(frames, ignore_index=True) if frames else empty()
    pa.default_memory_pool().release_unused()  # or what every batch took is kept for later ones
    gaps_s, seen = np.frombuffer(gaps, np.float32), reader.lines
    foreign = {words.partition(" ")[0] for words in seen.foreign}
    headless = [p.name for p in files if p.name not in seen.headed | foreign]
    return Records(
        frame, gaps_s, seen.broken, seen.hashes, seen.foreign, headless, seen.clock_zero_s
    )


def empty() -> pd.DataFrame:
    """No records, with the columns and types that some have."""
    schema = SCHEMA.remove(SCHEMA.get_field_index("chunk_s"))
    frame: pd.DataFrame = schema.empty_table().to_pandas()
    return frame.assign(**{name: np.array([], dtype=kind) for name, kind in OF_CHUNKS.items()})


def _table(
    lines: list[Any], times: np.ndarray, counts: np.ndarray, server: str
) -> tuple[pa.Table, np.ndarray]:
    """The records in SCHEMA; the gaps between chunks, in seconds."""
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
    return table, np.diff(times)[within].astype(np.float32)


def _of_chunks(times: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
    """OF_CHUNKS of records that have as many of `times`, one after the other, as `counts` says."""
    ends = np.cumsum(counts)
    some, several = counts > 0, counts > 1
    first, last, least = (np.full(len(counts), np.nan) for _ in range(3))
    together = np.zeros(len(counts), dtype=np.int64)
    first[some], last[some] = times[(ends - counts)[some]], times[ends[some] - 1]
    if several.any():
        gaps = np.append(np.diff(times), np.inf)
        gaps[ends[some] - 1] = np.inf  # to another record
        least[several] = np.minimum.reduceat(gaps, (ends - counts)[several])
        together[several] = np.add.reduceat(gaps == 0, (ends - counts)[several], dtype=np.int64)
    return {
        "gaps": np.maximum(counts - 1, 0),
        "reads": counts - together,
        "first_chunk_s": first,
        "last_chunk_s": last,
        "least_gap_s": least,
    }
