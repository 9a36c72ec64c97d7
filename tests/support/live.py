"""The command line as its own process, and what it leaves running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from aot.serving.local import environments

KEY = "sk-e2e-s3cret"


def aot(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aot.scripts.cli.main", *map(str, arguments)]
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


@contextmanager
def served(files: Path, name: str) -> Iterator[str]:
    """The server of NAME.yaml by `aot serve`; its base URL. Ended by SIGKILL: nothing may stay."""
    command = [
        sys.executable,
        "-m",
        "aot.scripts.cli.main",
        "serve",
        f"{name}.yaml",
        "--log",
        f"{name}.log",
    ]
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "E2E_KEY": KEY}
    process = subprocess.Popen(command, cwd=files, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1].removesuffix("/v1")
        assert len(engine_processes()) >= 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    psutil.wait_procs(engine_processes(), timeout=30)
    assert engine_processes() == []
