"""Logs in several files: folders of shards, zip archives; and rows in Parquet."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError

READ = (".jsonl", ".json", ".ndjson", ".log", ".parquet", ".gz", ".zst", ".txt")
ROWS_AT_ONCE = 1_000


def is_zip(path: Path) -> bool:
    """By its first bytes."""
    return path.is_file() and zipfile.is_zipfile(path)


def is_parquet(path: Path, member: str | None) -> bool:
    """Whether a file, or a file in it, is one."""
    if member is not None:
        return member.endswith(".parquet")
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PAR1"
    except OSError:
        return False  # whoever opens it says why


def shards(path: Path) -> list[str | None]:
    """The names of the files in a folder or an archive, in order; [None] for a file alone.
    UsageError where there is none that could be a log."""
    if not path.is_dir() and not is_zip(path):
        return [None]
    if path.is_dir():
        names = [str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()]
    else:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if not n.endswith("/")]
    known = sorted(n for n in names if n.endswith(READ) and not Path(n).name.startswith((".", "_")))
    if not known:
        raise UsageError(f"{path}: no file in it that could be a log ({', '.join(READ)})")
    return [*known]


@contextmanager
def member_of(path: Path, member: str) -> Iterator[Any]:
    """A file in a zip archive, or in a folder."""
    if path.is_dir():
        with (path / member).open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(member) as file:
        yield file


def parquet_rows(path: Path, member: str | None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a batch at a time. UsageError for one that cannot be read."""
    import pyarrow as pa  # takes as long as reading a short trace
    import pyarrow.parquet as pq

    try:
        if member is None:
            yield from _batches(pq.ParquetFile(path))
            return
        with member_of(path, member) as file:
            yield from _batches(pq.ParquetFile(io.BytesIO(file.read())))
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: cannot be read as Parquet: {error}") from None


def _batches(file: Any) -> Iterator[dict[str, Any]]:
    for batch in file.iter_batches(ROWS_AT_ONCE):
        for row in batch.to_pylist():
            yield {k: v for k, v in row.items() if v is not None}
