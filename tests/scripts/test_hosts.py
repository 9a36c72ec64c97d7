"""`aot load --master` and `--worker` over several network hosts: each is a network namespace with
an address of its own, joined to this one by a virtual cable."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.planned import sessions
from support.stub import Stub, serving

from aot.workloads.requests import schedule as schedule_file

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None,
    reason="network namespaces need root and iproute2",
)
HOSTS = (1, 2)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two hosts; host n is 10.91.n.2 and sees this one as 10.91.n.1."""
    names = [f"aot-{os.getpid()}-{n}" for n in HOSTS]
    try:
        for n, name in zip(HOSTS, names, strict=True):
            here, there = f"aoth{n}", f"aott{n}"
            ip("netns", "add", name)
            ip("link", "add", here, "type", "veth", "peer", "name", there)
            ip("link", "set", there, "netns", name)
            ip("addr", "add", f"10.91.{n}.1/24", "dev", here)
            ip("link", "set", here, "up")
            ip("-n", name, "addr", "add", f"10.91.{n}.2/24", "dev", there)
            ip("-n", name, "link", "set", there, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    finally:
        for n, name in zip(HOSTS, names, strict=True):
            # The cable first: with its host it would go some time later.
            for words in (["link", "del", f"aoth{n}"], ["netns", "del", name]):
                subprocess.run(["ip", *words], check=False, capture_output=True)


AOT = [sys.executable, "-P", "-m", "aot.scripts.cli", "load", "s.jsonl"]


def worker(host: str, number: int, stub: Stub, folder: Path) -> subprocess.Popen[bytes]:
    port = stub.base_url.rpartition(":")[2]
    here = f"10.91.{number}.1"
    command = ["ip", "netns", "exec", host, *AOT, "--url", f"http://{here}:{port}"]
    log = (folder / f"worker-{number}.log").open("w")
    with log:
        return subprocess.Popen(
            [*command, "--worker", f"{here}:5591"], cwd=folder, stdout=log, stderr=log
        )


@pytest.mark.parametrize("killed", [False, True])
def test_two_hosts_share_a_schedule(hosts: list[str], tmp_path: Path, killed: bool) -> None:
    schedule_file.write(sessions(40, 0.1), tmp_path / "s.jsonl")
    with serving(host="0.0.0.0", tokens=4, gap_s=0.01) as stub:
        port = stub.base_url.rpartition(":")[2]
        command = [*AOT, "--url", f"http://127.0.0.1:{port}", "-o", "run", "--master", "2"]
        master = subprocess.Popen(
            [*command, "--listen", "0.0.0.0:5591"], cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        workers = [worker(h, n, stub, tmp_path) for n, h in zip(HOSTS, hosts, strict=True)]
        try:
            if killed:
                _wait_for(lambda: len(stub.received) >= 30)
                workers[0].send_signal(signal.SIGKILL)
            out, err = master.communicate(timeout=90)
            assert workers[1].wait(30) == 0
        finally:
            for process in (master, *workers):
                process.kill()
                process.wait()
    assert master.returncode == (1 if killed else 0), err + out
    records = (tmp_path / "run" / "phases" / "r1-auto" / "records").glob("requests-*.jsonl")
    rows = [json.loads(x) for path in records for x in path.read_text().splitlines()[1:]]
    assert Counter(r["id"] for r in rows) == dict.fromkeys(sessions(40, 0.1).by_id, 1)
    lost = [r for r in rows if r["error"]]
    if killed:
        assert len({r["error"] for r in lost}) == 1
        assert "lost: load worker" in lost[0]["error"]
        assert 5 < len(lost) < 40
        assert "not every request was answered" in err
    else:
        assert lost == []


def _wait_for(done) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + 40
    while not done() and time.monotonic() < until:
        time.sleep(0.05)
    assert done()
