"""Files and folders that two processes may want: written in one step, held by one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from aot.configs.kernel.errors import UsageError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; what is there at the end becomes `path`.

    Raises UsageError naming `path` where it is a folder or cannot be written.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file to write")
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):  # or it would hide what went wrong
            partial.unlink(missing_ok=True)


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
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / ".lock").unlink(missing_ok=True)
        lock.release()
