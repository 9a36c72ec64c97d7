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
from support.processes import own, words

KEY = "sk-e2e-s3cret"
QUICK = "--distributed-executor-backend, vllm.v1.executor.uniproc_executor.UniProcExecutor"
"""Arguments of a vLLM without a process of its own for its one worker: a third of a start less. The
main job has the server as users have it."""


def aot(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "aot.scripts.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1800)


def engine_processes() -> list[psutil.Process]:
    """Everything of this test run that runs from an engine environment."""
    folder = str(environments.engines_dir())
    # SGLang's children replace their command line by a title.
    return [
        p
        for p in own()
        if any(folder in w or w.startswith("sglang::") for w in (_program(p), *words(p)))
    ]


def _program(process: psutil.Process) -> str:
    try:
        return process.exe()
    except psutil.Error:
        return ""


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


@contextmanager
def served(files: Path, name: str, *options: str, arm: str = "aot") -> Iterator[str]:
    """The server of NAME.yaml by `aot serve`; its base URL. Ended by SIGKILL: nothing may stay."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "aot.scripts.cli",
        "serve",
        f"{name}.yaml",
        "--log",
        f"{name}.log",
        "--arm",
        arm,
        *options,
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
