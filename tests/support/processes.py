"""The processes of this test run, and no others: all that it started, orphans among them."""

from __future__ import annotations

import psutil


def own() -> list[psutil.Process]:
    """Every living descendant of this test run."""
    return [p for p in psutil.Process().children(recursive=True) if not gone(p.pid)]


def words(process: psutil.Process) -> list[str]:
    """Its command line; empty where it has ended meanwhile."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def gone(pid: int) -> bool:
    """Whether a process has ended, be it not waited for yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
