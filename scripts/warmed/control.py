"""A word to an `aot serve` of this machine that runs already: one JSON line there, lines back."""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import ToolkitError, UsageError

ANSWER_S = 1.0


def socket_path(port: int) -> Path:
    """Where the one that serves on `port` listens: a folder that only its user can enter."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"aot-{os.getuid()}"
    return folder / f"serve-{port}.sock"


class Control:
    """The side of the one that serves: `look` handles what was asked for meanwhile. Without a
    listener nobody can ask."""

    def __init__(
        self, listener: socket.socket | None, roll: Callable[[Callable[[str], None]], None]
    ) -> None:
        self._listener, self._roll = listener, roll

    def look(self) -> None:
        if self._listener is None:
            return
        try:
            asked, _ = self._listener.accept()
        except (BlockingIOError, TimeoutError):
            return
        with asked:
            asked.settimeout(ANSWER_S)
            with suppress(OSError):
                asked.recv(4096)
            self._answer(asked)

    def _answer(self, asked: socket.socket) -> None:
        def tell(kind: str, words: str) -> None:
            with suppress(OSError):  # who asked may be gone: it goes on all the same
                asked.sendall((json.dumps({kind: words}) + "\n").encode())

        try:
            self._roll(lambda words: tell("news", words))
        except ToolkitError as error:
            tell("error", str(error))
        else:
            tell("done", "")


@contextmanager
def listening(
    port: int, roll: Callable[[Callable[[str], None]], None], report: Callable[[str], None]
) -> Iterator[Control]:
    """While the block runs, others can ask for what `roll` does. Where that cannot be offered it is
    said, and served all the same."""
    path = socket_path(port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.parent.stat().st_uid != os.getuid():
                raise PermissionError(f"{path.parent} belongs to another user")
            path.unlink(missing_ok=True)
            listener.bind(str(path))
        except OSError as error:
            report(f"no rollout can be asked for ({error}); XDG_RUNTIME_DIR says where instead")
            yield Control(None, roll)
            return
        listener.listen()
        listener.setblocking(False)
        try:
            yield Control(listener, roll)
        finally:
            path.unlink(missing_ok=True)


def ask(port: int, report: Callable[[str], None]) -> None:
    """Have it roll; returns when it has. UsageError where none serves on that port, ToolkitError
    with its own words where it did not succeed."""
    path = socket_path(port)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as there:
        try:
            there.connect(str(path))
        except OSError:
            raise UsageError(
                f"no 'aot serve' of this user serves on port {port} here; a rollout is asked for "
                "on the machine and by the user that started it"
            ) from None
        there.sendall(b"{}\n")
        for told in _lines(there):
            if "error" in told:
                raise ToolkitError(str(told["error"]))
            if "done" in told:
                return
            report(str(told.get("news", "")))
    raise ToolkitError("the one that serves ended during the rollout; see its own output")


def _lines(there: socket.socket) -> Iterator[dict[str, Any]]:
    with there.makefile(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
