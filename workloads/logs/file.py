"""Read a trace line by line, whatever it is packed in; what is wrong is named by file and line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from aot.configs.kernel.errors import UsageError
from aot.workloads.logs import packed

Row = dict[str, Any]
CHUNK_CHARACTERS = 1 << 16
FIRST_LINE_CHARACTERS = 1 << 26
STRICT = msgspec.json.Decoder()


@dataclass(slots=True)
class Rows:
    """The rows of one file. With `skip_bad`, `skipped` counts what was left out; None: who asks
    has no such option."""

    path: Path
    skip_bad: bool | None = None
    skipped: int = 0
    first_skipped: str | None = None
    shard: str | None = None
    """Which file of a folder or an archive is being read."""

    def bad(self, number: int, why: str) -> None:
        """A row that is no request: an error, or counted."""
        where = f"{self._named}:{number}: {why}"
        if not self.skip_bad:
            hint = "" if self.skip_bad is None else " (--skip-bad counts such lines and goes on)"
            raise UsageError(where + hint)
        self.skipped += 1
        self.first_skipped = self.first_skipped or where

    @property
    def _named(self) -> str:
        return f"{self.path}/{self.shard}" if self.shard else str(self.path)

    def objects(self) -> Iterator[tuple[int, Row]]:
        """(number, object) of every row, however the file has them: an object a line, one JSON
        array, whole objects over many lines, Parquet; in one file, or in those of a folder or of a
        zip archive, by name."""
        for shard in packed.shards(self.path):
            self.shard = shard
            if packed.is_parquet(self.path, shard):
                yield from enumerate(packed.parquet_rows(self.path, shard), 1)
                continue
            match self._layout(shard):
                case "array":
                    yield from self.json_array(shard)
                case "lines":
                    yield from self.json_lines(shard)
                case _:
                    yield from self.json_array(shard, bare=True)
        self.shard = None

    def _layout(self, member: str | None) -> str:
        with self.opened(member) as handle:
            start = handle.readline(FIRST_LINE_CHARACTERS).lstrip("\ufeff \t\r\n")
        if start.startswith("["):
            return "array"
        try:
            json.loads(start)
        except RecursionError:
            return "lines"
        except ValueError:
            # An object that goes on, or lines of which the first is bad.
            return "objects" if start.rstrip() in ("{", "") else "lines"
        return "lines"

    def json_lines(self, member: str | None = None) -> Iterator[tuple[int, Row]]:
        """(line number, object) of each line that is not empty."""
        for number, line in enumerate(self.lines(member), 1):
            if not line.strip():
                continue
            try:
                row = _parsed(line)
            except (ValueError, RecursionError) as error:
                self.bad(number, f"not JSON: {error}")
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                self.bad(number, f"expected an object, got {type(row).__name__}")

    def csv_rows(self, columns: tuple[str, ...]) -> Iterator[tuple[int, Row]]:
        """(line number, values by column) of a CSV file with a header that has `columns`."""
        reader = csv.DictReader(self.lines())
        missing = [c for c in columns if c not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(
                f"{self.path}:1: no column '{missing[0]}'; expected {', '.join(columns)}"
            )
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self.bad(reader.line_num, str(error))
                continue
            yield reader.line_num, row

    def json_array(
        self, member: str | None = None, bare: bool = False
    ) -> Iterator[tuple[int, Row]]:
        """(number of the element, object) of a file that is one JSON array, a piece at a time;
        `bare`: of objects one after the other without one."""
        decoder = json.JSONDecoder()
        with self.opened(member) as handle:
            buffer = handle.read(CHUNK_CHARACTERS).lstrip("\ufeff \t\r\n")
            if not bare and not buffer.startswith("["):
                raise UsageError(f"{self._named}: expected a JSON array of conversations")
            buffer, number, ended = buffer if bare else buffer[1:], 0, False
            while True:
                buffer = buffer.lstrip(" \t\r\n,")
                if buffer.startswith("]") or (bare and ended and not buffer):
                    return
                try:
                    row, end = decoder.raw_decode(buffer)
                except RecursionError:
                    raise UsageError(
                        f"{self._named}:{number + 1}: not JSON: it is nested too deeply"
                    ) from None
                except ValueError as error:
                    if ended:
                        where = (
                            f"{number + 1}: not JSON"
                            if bare
                            else f" element {number + 1}: not JSON"
                        )
                        raise UsageError(f"{self._named}:{where}, or cut off: {error}") from None
                    # Twice as much each time: an element is not parsed over and over again.
                    more = handle.read(max(CHUNK_CHARACTERS, len(buffer)))
                    buffer, ended = buffer + more, not more
                    continue
                buffer, number = buffer[end:], number + 1
                if isinstance(row, dict):
                    yield number, row
                else:
                    self.bad(number, f"expected an object, got {type(row).__name__}")

    def lines(self, member: str | None = None) -> Iterator[str]:
        """Lines of the file; of `member`, in a folder or an archive."""
        with self.opened(member) as handle:
            yield from handle

    @contextmanager
    def opened(self, member: str | None = None) -> Iterator[IO[str]]:
        """The text of the file, unpacked (gzip, zstd) by its first bytes, not by its name."""
        try:
            with (
                self._binary(member) as raw,
                io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text,
            ):
                yield text
        except FileNotFoundError as error:
            raise UsageError(f"{error.filename or self.path}: no such file") from None
        except UnicodeDecodeError as error:
            words = f"{self.path}: not UTF-8 ({error.reason}): save it as UTF-8"
            raise UsageError(words) from None
        except (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile) as error:
            raise UsageError(f"{self.path}: cannot be read: {error}") from None

    @contextmanager
    def _binary(self, member: str | None) -> Iterator[Any]:
        if member is None:
            with self.path.open("rb") as raw:
                yield _unpacked(raw)
        elif packed.is_zip(self.path):
            with packed.member_of(self.path, member) as raw:
                yield _unpacked(io.BufferedReader(raw))
        elif self.path.is_dir() or not self.path.name.endswith((".tgz", ".tar.gz", ".tar")):
            with (self._folder() / member).open("rb") as raw:
                yield _unpacked(raw)
        else:
            with tarfile.open(self.path) as archive:
                name = next((n for n in archive.getnames() if n.endswith(f"/{member}")), member)
                try:
                    yield archive.extractfile(name)
                except KeyError:
                    raise UsageError(f"{self.path}: no {member} in it") from None

    def _folder(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent


def _parsed(line: str) -> Any:
    """By msgspec, which takes a third of the time; what it does not take (NaN, half a surrogate)
    and what is wrong with a line is Python's own to say."""
    try:
        return STRICT.decode(line)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return json.loads(line)


def _unpacked(raw: io.BufferedReader) -> Any:
    start = raw.peek(4)[:4]
    if start.startswith(b"\x1f\x8b"):
        return gzip.open(raw)
    if start == b"\x28\xb5\x2f\xfd":
        import pyarrow as pa  # takes as long as reading a short trace

        return pa.CompressedInputStream(raw, "zstd")
    return raw
