"""Ctrl-C and kill end every verb soon, with what was measured; in processes of their own."""

from __future__ import annotations

import json
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from support import stub
from support.command import started
from support.compiled import prompt
from support.middle import listening
from support.processes import words

SOON_S = 30.0


@contextmanager
def _silent(models: bool) -> Iterator[tuple[str, threading.Event]]:
    """A server that says which model it has, if `models`, and answers nothing else; its URL, and
    whether it was asked for an answer."""
    asked, ended = threading.Event(), threading.Event()

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            head = client.recv(65536)
            path = head.split(b" ")[1] if b" " in head else b""
            if not models or b"chat/completions" in path:
                asked.set()
                ended.wait(10 * SOON_S)
                return
            body = b'{"data": [{"id": "m"}]}' if path == b"/v1/models" else b"{}"
            client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
            client.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    with listening(serve) as port:
        yield f"http://127.0.0.1:{port}", asked
        ended.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["warm", "audit", "ask", "load"])
def test_a_silent_server_does_not_hold_the_end(
    tmp_path: Path, workload: Path, verb: str, number: signal.Signals
) -> None:
    compiled = tmp_path / "compiled.json"
    compiled.write_text(prompt("p", list(range(9))).to_text())
    with _silent(models=True) as (url, asked):
        arguments: dict[str, list[object]] = {
            "warm": ["warm", compiled, "--url", url],
            "audit": ["audit", "isolation", url],
            "ask": ["ask", compiled, "Why?", "--model", "m", "--url", url],
            "load": ["load", workload, "--url", url, "-o", "run"],
        }
        process = started(*arguments[verb], cwd=tmp_path)
        assert asked.wait(SOON_S), process.communicate()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(number)
        _, error = process.communicate(timeout=SOON_S)
        assert process.returncode == 128 + number
        assert "Traceback" not in error
        _, alive = psutil.wait_procs(children, timeout=SOON_S)
        assert alive == []


def test_a_server_that_accepts_and_never_answers_is_waited_for_aloud(
    tmp_path: Path, workload: Path
) -> None:
    with _silent(models=False) as (url, _):
        process = started("load", workload, "--url", url, cwd=tmp_path)
        assert process.stderr is not None
        assert select.select([process.stderr], [], [], SOON_S)[0]
        assert process.stderr.readline() == f"asking {url} what it serves\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=SOON_S)
        assert process.returncode == 130


def test_an_audit_that_is_stopped_keeps_its_trials(tmp_path: Path) -> None:
    with stub.serving(cached_tokens=0) as server:
        command = ("audit", "isolation", server.base_url, "--trials", 100000, "--json", "out.json")
        process = started(*command, cwd=tmp_path)
        while len(server.received) < 12:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        said, error = process.communicate(timeout=SOON_S)
    assert process.returncode == 130
    assert "stopped after" in error
    assert "verdict: " in said
    facts = json.loads((tmp_path / "out.json").read_text())
    assert len(facts["trials"]) >= 3
    assert len(facts["trials"]) < 100000


@pytest.mark.parametrize("after_s", [0.05, 0.1, 0.2, 0.4])
def test_an_early_ctrl_c_is_no_traceback(tmp_path: Path, after_s: float) -> None:
    """While the verb is still being imported; before that it is Python's own start."""
    code = "import sys; from aot.scripts.cli.entry import main; print('begun', flush=True); main()"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code, "history", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    time.sleep(after_s)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=SOON_S)
    assert "Traceback" not in error
    assert process.returncode in (130, 0, 2)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_load_that_is_killed_sends_nothing_more(
    tmp_path: Path, workload: Path, processes: int
) -> None:
    """Killed while Locust is still being imported."""
    with stub.serving(gap_s=0.001) as server:
        command = ("load", workload, "--url", server.base_url, "-o", "run")
        process = started(*command, "--processes", processes, cwd=tmp_path)
        locust = None
        while locust is None:
            assert process.poll() is None
            found = psutil.Process(process.pid).children()
            locust = next((c for c in found if "locust" in " ".join(words(c))), None)
            time.sleep(0.01)
        process.kill()
        process.communicate()
        psutil.wait_procs([locust], timeout=SOON_S)
        time.sleep(1.0)
        assert not locust.is_running() or locust.status() == psutil.STATUS_ZOMBIE
        assert server.received == []


def test_an_end_that_python_drops_comes_again(tmp_path: Path) -> None:
    """What a signal's handler raises while an object is destroyed is dropped, with a traceback."""
    script = tmp_path / "command.py"
    script.write_text(
        "import sys, time, types\n"
        "from aot.scripts.cli import entry\n"
        "class Slow:\n"
        "    def __del__(self):\n"
        "        print('destroying', flush=True)\n"
        "        time.sleep(1)\n"
        "def call(arguments):\n"
        "    Slow()\n"
        "    time.sleep(60)\n"
        "    return 0\n"
        "sys.modules['aot.scripts.cli.main'] = types.SimpleNamespace(call=call)\n"
        "entry.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "destroying\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SOON_S)
    assert process.returncode == 128 + signal.SIGINT
    assert errors == ""
