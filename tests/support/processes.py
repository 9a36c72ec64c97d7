"""The processes of this test run, and no others: all that it started, orphans among them."""

from __future__ import annotations

import ctypes

import psutil

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of all descendants whose own parent ends (prctl(2)): a process
    that outlives the killed tool is still found by `own`, and nobody else's is."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


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
