"""What is no regular file is written to, never replaced; a link stays one."""

from __future__ import annotations

import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from support.command import Aot, check

from aot.configs.kernel.errors import ToolkitError, UsageError
from aot.configs.kernel.files import replacing


def _write(path: Path, text: str = "new") -> None:
    with replacing(path) as partial:
        partial.write_text(text)


def test_a_device_stays_one(tmp_path: Path) -> None:
    before = Path("/dev/null").stat()
    _write(Path("/dev/null"))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert Path("/dev/null").stat().st_ino == before.st_ino
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    _write(null)
    assert null.is_symlink()


def test_a_full_device_is_said() -> None:
    with pytest.raises(ToolkitError, match="/dev/full: cannot be written: No space left") as caught:
        _write(Path("/dev/full"))
    assert caught.value.exit_code == 1


def test_a_pipe_gets_what_is_written(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    _write(pipe)
    reader.join(10)
    assert got == ["new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target = tmp_path / "folder" / "file"
    for there in (False, True):  # one that leads nowhere yet, too
        if there:
            target.write_text("old")
        link = tmp_path / f"link-{there}"
        link.symlink_to(Path("folder") / "file")
        _write(link)
        assert link.is_symlink()
        assert target.read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["file"]


def test_a_link_to_itself_and_a_socket_are_said(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(UsageError, match="loop: cannot be written"):
        _write(loop)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(UsageError, match="socket: cannot be written"):
            _write(tmp_path / "socket")
        assert stat.S_ISSOCK((tmp_path / "socket").stat().st_mode)


def test_a_file_in_memory_is_replaced_and_no_device_is_made() -> None:
    file = Path("/dev/shm") / f"aot-test-{os.getpid()}"
    try:
        for text in ("old and longer", "new"):
            _write(file, text)
        assert file.read_text() == "new"
    finally:
        file.unlink(missing_ok=True)
    with pytest.raises(UsageError, match="/dev/no-such: there is no such device"):
        _write(Path("/dev/no-such"))
    assert not Path("/dev/no-such").exists()


def test_a_file_keeps_its_rights(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o600)
    _write(file)
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_failed_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")

    def fails() -> None:
        with replacing(file) as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert file.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_schedule_can_be_piped(aot: Aot, workload: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    check(aot("schedule", workload, "-o", pipe), 0)
    reader.join(10)
    check(aot("schedule", workload, "-o", "file.jsonl"), 0)
    assert got == [(tmp_path / "file.jsonl").read_text()]
