"""The log that a capture writes: a line a request, flushed; in files of at most so many bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any


@dataclass(slots=True)
class CaptureLog:
    """`path` grows up to `most_bytes`, then it is put aside as PATH.1, and that as PATH.2, ...; the
    newest `keep` of those stay. Lines are appended to a log that is there already.

    A disk that takes no more stops the log and nothing else: `lost` counts the lines from then on,
    and no line is left half-written.
    """

    path: Path
    most_bytes: int | None = None
    keep: int = 4
    report: Callable[[str], None] = lambda _: None
    written: int = 0
    lost: int = 0
    _file: IO[bytes] | None = None
    _size: int = 0
    _stopped: bool = field(default=False)

    def open(self) -> None:
        """OSError where it cannot be written at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("ab", buffering=0)
        self._size = self._whole(self._file.tell())

    def write(self, row: Mapping[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if self._stopped or self._file is None:
            self.lost += 1
            return
        try:
            if self.most_bytes and self._size and self._size + len(line) > self.most_bytes:
                self._rotate()
            self._append(line)
        except OSError as error:
            self._stop(error)
            return
        self.written += 1

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, line: bytes) -> None:
        assert self._file is not None
        written = self._file.write(line) or 0
        if written < len(line):
            raise OSError(28, "No space left on device")
        self._size += len(line)

    def _stop(self, error: OSError) -> None:
        self._stopped = True
        self.lost += 1
        if self._file is not None:
            os.ftruncate(self._file.fileno(), self._size)  # what is half-written goes
        self.report(
            f"{self.path}: {error.strerror or error}: nothing more is logged from here on; "
            "requests are passed on as before"
        )

    def _rotate(self) -> None:
        self.close()
        for number in range(self.keep, 0, -1):
            source = self._aside(number - 1) if number > 1 else self.path
            if source.exists():
                source.replace(self._aside(number))
        if self.keep == 0:
            self.path.unlink(missing_ok=True)
        self._file = self.path.open("ab", buffering=0)
        self._size = 0

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _whole(self, size: int) -> int:
        """The size without a last line that was cut off when its writer was killed."""
        if not size:
            return 0
        with self.path.open("rb+") as file:
            while size:
                start = max(0, size - 65536)
                file.seek(start)
                end = file.read(size - start).rfind(b"\n")
                if end >= 0:
                    size = start + end + 1
                    break
                size = start
            file.truncate(size)
        return size
