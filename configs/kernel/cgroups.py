"""A cgroup of one's own, where it can be had: what is in it is found and ended in one step, however
it forks (Linux cgroups v2; Documentation/admin-guide/cgroup-v2.rst, cgroup.kill)."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

EMPTY_S = 5.0
POLL_S = 0.02
FILE_SYSTEM = "cgroup2"


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A folder of the cgroup file system that this process has made."""

    folder: Path

    def enter(self) -> None:
        """Put the calling process in, and with it all that it will start."""
        (self.folder / "cgroup.procs").write_text("0")

    def kill(self) -> None:
        """End whatever is in it, and give it back."""
        with suppress(OSError):
            (self.folder / "cgroup.kill").write_text("1")
        until = time.monotonic() + EMPTY_S
        while time.monotonic() < until:
            with suppress(OSError):
                self.folder.rmdir()  # refused while a process of it is there
                return
            time.sleep(POLL_S)


def own(name: str) -> Cgroup | None:
    """A cgroup called `name` below the one of this process; None where there is no version 2, no
    right to make one, or a kernel (before 5.14) that cannot kill one."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
        root = next((m.split()[1] for m in mounts if m.split()[2] == FILE_SYSTEM), None)
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
        below = next((line[3:] for line in lines if line.startswith("0::")), None)
        if root is None or below is None:
            return None
        folder = Path(root) / below.lstrip("/") / name
        folder.mkdir()
    except OSError:
        return None
    if not (folder / "cgroup.kill").exists():
        folder.rmdir()
        return None
    return Cgroup(folder)
