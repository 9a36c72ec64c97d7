"""The one reader of record files: lines → records, a header, and what is to be said of the rest.

A file that was cut off while writing has a broken last line: it is counted, not fatal.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from aot.workloads.wire.record import FORMAT, Record

REQUIRED = ("id", "arm", "repeat", "sent_s", "chunk_s")
"""Without these a line is no record; other fields may be missing: their values are unknown then."""


def _shape() -> Any:
    """The shape that Record.to_line gives a record; numbers may be written with a fraction. The
    times of chunks are left as text: they are most of a line, and few readers want them."""
    kinds: dict[str, Any] = {
        "str": str, "int": int, "bool": bool, "list[float]": msgspec.Raw, "str | None": str | None,
    }  # fmt: skip
    numbers = float | None
    shape: list[Any] = []
    for field in sorted(fields(Record), key=lambda f: f.name not in REQUIRED):
        kind = kinds.get(str(field.type), numbers)
        if field.name in REQUIRED:
            shape.append((field.name, kind))
        else:
            shape.append((field.name, kind | None, None))
    return msgspec.defstruct("Line", shape, gc=False)


Line: Any = _shape()
"""A Record as it is read."""


class RecordLines:
    """Reads record files piece by piece. `hashes`, `broken`, `foreign`, `clock_zero_s`, `headed`:
    what was seen so far of headers and their files, of lines that are no records, and of files of
    another format."""

    def __init__(self) -> None:
        self.hashes: set[str] = set()
        self.broken = 0
        self.foreign: list[str] = []
        self.clock_zero_s: float | None = None
        self.headed: set[str] = set()

    def read(self, piece: bytes, name: str) -> list[Any]:
        """The records in a piece of the file `name` that ends where a line ends; none of a file of
        another format."""
        try:
            lines: list[Any] = msgspec.json.Decoder(Line).decode_lines(piece)
        except (msgspec.DecodeError, UnicodeDecodeError):
            lines = self._one_by_one(piece, name)
        return lines

    def is_foreign(self, name: str) -> bool:
        """Whether the file `name`, of which something was read last, has another format."""
        return bool(self.foreign) and self.foreign[-1].startswith(name)

    def _one_by_one(self, piece: bytes, name: str) -> list[Any]:
        """The records of a piece that has other lines, too."""
        decode, records = msgspec.json.Decoder(Line).decode, []
        for raw in piece.removesuffix(b"\n").split(b"\n"):
            try:
                records.append(decode(raw))
            except (msgspec.DecodeError, UnicodeDecodeError):
                if not self._header(raw, name):
                    if self.is_foreign(name):
                        break
                    self.broken += 1
        return records

    def _header(self, raw: bytes, name: str) -> bool:
        """Whether the line is a header of ours; one of another format is noted."""
        try:
            row = json.loads(raw)
        except ValueError:
            return False
        named = row.get("format") if isinstance(row, dict) else None
        if named == FORMAT:
            self.headed.add(name)
            self.hashes.add(str(row.get("schedule_sha256")))
            zero = row.get("clock_zero_monotonic_s")
            self.clock_zero_s = zero if isinstance(zero, float) else None
        elif named is not None:
            self.foreign.append(f"{name} has format '{named}', this version reads '{FORMAT}'")
        return bool(named == FORMAT)


def read_all(path: Path) -> list[Any]:
    """Every record of a file that is small enough to hold."""
    data = path.read_bytes()
    return RecordLines().read(data, path.name) if data else []
