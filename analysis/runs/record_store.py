"""records.parquet, written while records are read."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aot.analysis.runs.records import SCHEMA, Keep
from aot.configs.kernel.files import replacing


@contextmanager
def writing(path: Path) -> Iterator[Keep]:
    """Everything that is kept is in `path` when the block ends, which stays as it was where the
    block fails. Compressing takes a thread of its own, one batch behind."""
    with replacing(path) as partial, ThreadPoolExecutor(1) as thread:
        writers: list[pq.ParquetWriter] = []
        pending: list[Future[Any]] = []

        def writer() -> pq.ParquetWriter:
            if not writers:
                names = ["server", "arm", "tenant", "prefix", "error"]
                writers.append(
                    pq.ParquetWriter(
                        partial,
                        SCHEMA,
                        compression="zstd",
                        use_dictionary=names,
                        use_byte_stream_split=["chunk_s.list.element"],
                    )
                )
            return writers[0]

        def keep(table: pa.Table) -> None:
            if pending:
                pending.pop().result()
            pending.append(thread.submit(writer().write_table, table))

        try:
            yield keep
            writer()  # without any record: a file without rows
            for written in pending:
                written.result()
        finally:
            for opened in writers:
                opened.close()
