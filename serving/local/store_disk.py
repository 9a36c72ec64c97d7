"""What a KV store keeps on disk: whose chunks they are, and whether they are as they were written.

The store itself does not look whether a chunk is whole, and a damaged one would change answers. So
when a store of ours ends, the sums of its files are written down, and before it starts again what
differs is put aside. LMCache (0.5.6) names a file MODEL@LAYOUT@RANK@HASH[@SALT].data, with -SEP-
for each / of the model's path.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing

SUMS = "aot-store.json"
SUFFIX = ".data"


@dataclass(frozen=True, slots=True)
class Chunk:
    """One file. `name`: of its tokens and all before them, hexadecimal. `salt`: the cache salt that
    it is under, as the store has it; None without one."""

    path: Path
    model: str
    name: str
    salt: str | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Checked:
    """`unknown`: written since the sums were, so that nobody can tell whether they are whole."""

    whole: tuple[Chunk, ...]
    damaged: tuple[Chunk, ...]
    unknown: tuple[Chunk, ...]
    has_sums: bool

    @property
    def unusable(self) -> tuple[Chunk, ...]:
        """Those that must not be served. A folder without any sums is another store's, or of a
        first time that was cut short: it is taken as it is."""
        return (*self.damaged, *self.unknown) if self.has_sums else ()


def chunks(folder: Path) -> list[Chunk]:
    """All of them, by name. UsageError where there is no such folder."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; it is the 'disk' of a server file's store")
    return [_chunk(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]


def _chunk(path: Path) -> Chunk:
    model, *rest = path.name.removesuffix(SUFFIX).split("@")
    return Chunk(
        path,
        model.replace("-SEP-", "/"),
        rest[2] if len(rest) > 2 else "",
        rest[3] if len(rest) > 3 else None,
        path.stat().st_size,
    )


def is_gone(model: str) -> bool:
    """Whether a model path is a folder of this machine that is not there."""
    return model.startswith("/") and not Path(model).is_dir()


def seal(folder: Path) -> None:
    """Write down the sums of all chunks; those of files that have not changed are kept."""
    if not folder.is_dir():
        return
    known = _sums(folder) or {}
    sums = {}
    for chunk in chunks(folder):
        before, stamp = known.get(chunk.path.name), _stamp(chunk.path)
        kept = before is not None and before["stamp"] == stamp
        sums[chunk.path.name] = before if kept else {"stamp": stamp, "sum": _sum(chunk.path)}
    _write(folder, sums)


def _write(folder: Path, sums: Mapping[str, object]) -> None:
    with replacing(folder / SUMS) as partial:
        partial.write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def forget(folder: Path, removed: Sequence[Chunk]) -> None:
    """Take chunks off the disk, and their sums; those of others stay as they are."""
    known = _sums(folder)
    for chunk in removed:
        chunk.path.unlink()
        if known is not None:
            known.pop(chunk.path.name, None)
    if known is not None:
        _write(folder, known)


def check(folder: Path) -> Checked:
    """Read all chunks, and tell which are as they were."""
    known = _sums(folder)
    whole, damaged, unknown = [], [], []
    for chunk in chunks(folder):
        row = (known or {}).get(chunk.path.name)
        if row is None:
            unknown.append(chunk)
        elif row["sum"] == _sum(chunk.path):
            whole.append(chunk)
        else:
            damaged.append(chunk)
    return Checked(tuple(whole), tuple(damaged), tuple(unknown), known is not None)


def put_aside(folder: Path, unusable: Sequence[Chunk]) -> Path:
    """Move chunks out of the store's sight; where to."""
    aside = folder / "damaged"
    aside.mkdir(exist_ok=True)
    for chunk in unusable:
        chunk.path.replace(aside / chunk.path.name)
    return aside


def _sums(folder: Path) -> dict[str, dict[str, object]] | None:
    """None where there are none that can be read."""
    try:
        rows = json.loads((folder / SUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    good = isinstance(rows, dict) and all(
        isinstance(r, dict) and {"stamp", "sum"} <= r.keys() for r in rows.values()
    )
    return rows if good else None


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
