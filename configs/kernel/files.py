"""Write a file in one step: a reader never sees half of it, and a failure leaves the old one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        partial.unlink(missing_ok=True)
