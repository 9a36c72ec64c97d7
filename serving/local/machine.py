"""What this machine is: read once, recorded in every run, used to choose a dtype."""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Machine:
    """Hardware facts. `gpus` are lines of nvidia-smi (name, memory, driver); empty without one."""

    cpu: str
    cpu_flags: frozenset[str]
    cores: int
    memory_gib: float
    gpus: tuple[str, ...]
    system: str


@cache
def this_machine() -> Machine:
    """The facts of the machine this runs on, read once: nvidia-smi takes seconds."""
    fields = _cpuinfo()
    return Machine(
        cpu=fields.get("model name", platform.processor() or platform.machine()),
        cpu_flags=frozenset(fields.get("flags", "").split()),
        cores=len(usable_cores()),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpus=_gpus(),
        system=f"{platform.system()} {platform.release()}",
    )


def usable_cores() -> list[int]:
    """The numbers of the cores that this process may use (taskset, a container's cpuset)."""
    return sorted(psutil.Process().cpu_affinity())


def _cpuinfo() -> dict[str, str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _gpus() -> tuple[str, ...]:
    if not shutil.which("nvidia-smi"):
        return ()
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
    except subprocess.TimeoutExpired:  # a driver that hangs
        return ()
    return tuple(done.stdout.splitlines()) if done.returncode == 0 else ()
