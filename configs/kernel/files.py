"""Files and folders that two processes may want: written in one step, held by one at a time."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from aot.configs.kernel.errors import ToolkitError, UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
"""Of a disk: full, beyond what its user may have, broken."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what is there at the end becomes `path`. A link stays one: the file that
    it points to is replaced. A device, a pipe or a socket is written to.

    Raises UsageError naming `path` where it is a folder or cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file to write")
    try:
        if _is_stream(path):
            with _poured_into(path) as partial:
                yield partial
            return
        target = path.resolve() if path.is_symlink() else path
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            yield partial
            if target.exists():
                shutil.copymode(target, partial)
            partial.replace(target)
        finally:
            with suppress(OSError):  # or it would hide what went wrong
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    except RuntimeError as error:  # a link that leads to itself
        if "Symlink" not in str(error):
            raise
        raise UsageError(f"{path}: cannot be written: it is a link to itself") from None


def unwritable(path: Path, error: OSError) -> ToolkitError:
    """What is said of a file that cannot be written: a full disk is no mistake of the user's."""
    words = f"{path}: cannot be written: {error.strerror or error}"
    if error.errno in FULL:
        return ToolkitError(f"{words}. What was there is kept; free some space and go on from it")
    return UsageError(words)


def _is_stream(path: Path) -> bool:
    """Whether `path` is to be written into, since a new file in its place would be another thing:
    /dev/stdout may lead to a file, too."""
    if str(path.parent) in ("/dev", "/dev/fd", "/proc/self/fd"):
        if not path.exists():
            raise UsageError(f"{path}: there is no such device")
        return True
    return path.exists() and not path.is_file()


@contextmanager
def _poured_into(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aot-") as folder:
        partial = Path(folder) / "written"
        yield partial
        with path.open("ab") as sink, partial.open("rb") as source:
            shutil.copyfileobj(source, sink)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """`folder`, which is there, for this process alone. UsageError where another one has it."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UsageError(
            f"{folder}: another aot is measuring into it; wait for it, or choose another folder"
        ) from None
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield
    finally:
        lock.release()  # the file stays: another process may be about to lock it
