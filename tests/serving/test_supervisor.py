"""Nothing that a supervised command starts outlives it, whoever is stopped or killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from support.processes import gone

from aot.configs.kernel import cgroups
from aot.serving.local import supervisor

GRANDCHILD = """\
import subprocess, sys, signal, time
code = "import time; time.sleep(600)"
ends = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print("pids", ends.pid, flush=True)
signal.pause()
"""
FORKS_ON_TERM = """\
import os, signal, subprocess, sys, time
def worker():
    def again(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as its successor will have it
        code = "import time; time.sleep(600)"
        deaf = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        print("pids", deaf.pid, flush=True)
        os._exit(0)
    signal.signal(signal.SIGTERM, again)
    print("ready", flush=True)
    while True:
        signal.pause()
if os.fork() == 0:
    os.setsid()
    worker()
signal.pause()
"""
SUCCESSORS = """\
import os, signal, time
# Each process that is told to end leaves a successor, a hundred times; all of them are deaf to it.
signal.signal(15, signal.SIG_IGN)
print("ready", flush=True)
for _ in range(100):
    if os.fork():
        time.sleep(0.1)
        os._exit(0)
    os.setsid()
time.sleep(600)
"""


@pytest.fixture(params=["with a cgroup", "without"])
def supervised(
    tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[str, str], tuple[subprocess.Popen[bytes], Path]]]:
    log = tmp_path / "log"
    no_cgroup = "cgroups.own = lambda name: None\n" if request.param == "without" else ""
    launcher = tmp_path / "launch.py"
    launcher.write_text(
        "import sys\nfrom aot.configs.kernel import cgroups\n"
        f"from aot.serving.local import supervisor\n{no_cgroup}"
        "supervisor.GRACE_S = 1.0\nsys.exit(supervisor.main(sys.argv[1:]))\n"
    )
    processes = []

    def start(text: str, until: str) -> tuple[subprocess.Popen[bytes], Path]:
        (tmp_path / "command.py").write_text(text)
        command = [sys.executable, str(launcher), str(log)]
        command += [sys.executable, str(tmp_path / "command.py")]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        _wait(lambda: until in (log.read_text() if log.exists() else ""))
        return processes[-1], log

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _wait(for_what: Callable[[], bool], timeout_s: float = 30.0) -> None:
    until = time.monotonic() + timeout_s
    while not for_what():
        assert time.monotonic() < until
        time.sleep(0.05)


def _pids(log: Path) -> list[int]:
    return [int(line.split()[1]) for line in log.read_text().splitlines() if "pids" in line]


def _family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("who", ["guard", "inner", "both in turn"])
def test_a_grandchild_ends_when_a_supervisor_is_killed(supervised: object, who: str) -> None:
    process, log = supervised(GRANDCHILD, "pids")  # type: ignore[operator]
    (inner,) = psutil.Process(process.pid).children()
    family = _family(process)
    assert len(family) == 3
    if who != "guard":
        inner.kill()
    if who == "both in turn":
        time.sleep(0.3)
    if who != "inner":
        process.kill()
    _wait(lambda: all(gone(p.pid) for p in family))
    assert gone(_pids(log)[0])


@pytest.mark.parametrize("how", ["closed", signal.SIGTERM])
def test_what_is_forked_while_ending_ends_too(
    supervised: object, how: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, log = supervised(FORKS_ON_TERM, "ready")  # type: ignore[operator]
    if how == "closed":
        process.stdin.close()
    else:
        process.send_signal(how)
    process.wait(60)
    pids = _pids(log)
    assert pids, "the worker must have started its deaf successor"
    assert all(gone(pid) for pid in pids)


def test_a_chain_of_successors_ends(supervised: object) -> None:
    process, _ = supervised(SUCCESSORS, "ready")  # type: ignore[operator]
    process.stdin.close()
    process.wait(60)
    left = [p for p in psutil.Process().children(recursive=True) if _is(p, "command.py")]
    assert left == []


def _is(process: psutil.Process, name: str) -> bool:
    try:
        return any(word.endswith(name) for word in process.cmdline()) and not gone(process.pid)
    except psutil.Error:
        return False


def test_its_exit_code_is_the_commands(supervised: object, tmp_path: Path) -> None:
    process, log = supervised("print('ready', flush=True)\nraise SystemExit(7)", "ready")  # type: ignore[operator]
    assert process.wait(30) == 7
    assert "ready" in log.read_text()


def test_a_command_that_is_not_there_is_said_in_the_log(tmp_path: Path) -> None:
    command = [sys.executable, supervisor.__file__, str(tmp_path / "log"), str(tmp_path / "no")]
    assert subprocess.run(command, stdin=subprocess.PIPE, check=False).returncode == 127
    assert "cannot start" in (tmp_path / "log").read_text()


def test_a_cgroup_ends_what_is_in_it() -> None:
    group = cgroups.own("aot-test")
    if group is None:
        pytest.skip("no cgroup can be made here")
    code = dedent("""\
        import os, sys, time
        open(sys.argv[1] + "/cgroup.procs", "w").write("0")
        for _ in range(3):
            os.fork()
        os.setsid() if os.getpid() != os.getpgrp() else None
        os.write(1, b".")  # one byte: processes that write at once do not mix it
        time.sleep(600)
        """)
    command = [sys.executable, "-c", code, str(group.folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(8) == b"." * 8  # three forks are eight processes
        pids = (group.folder / "cgroup.procs").read_text().split()
        group.kill()
    assert len(pids) == 8
    assert not group.folder.exists()
    assert all(gone(int(pid)) for pid in pids)
