"""The command line as its own process, and what it leaves running."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

from serving import environments


def aot(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1800)


def engine_processes() -> list[psutil.Process]:
    """Everything that runs from an engine environment."""
    return [p for p in psutil.process_iter() if _is_engine(p)]


def _is_engine(process: psutil.Process) -> bool:
    folder = str(environments.engines_dir())
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        words = [process.exe(), *process.cmdline()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    # SGLang's children replace their command line by a title.
    return any(folder in w or w.startswith("sglang::") for w in words)


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run
