"""`runtime: docker` against a real Docker daemon, with an image of busybox that is made here."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGE = "aot-test-stub:1"
# PID 1 of a container, which ignores SIGTERM as one without a handler does.
ENGINE = """\
#!/bin/busybox sh
echo "token is $HF_TOKEN"
trap "" TERM
/bin/busybox httpd -p 8000 -h /www
while true; do /bin/busybox sleep 1; done
"""


def _docker(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["docker", *arguments], capture_output=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


def _stands() -> bool:
    busybox = shutil.which("busybox")
    return bool(busybox and shutil.which("docker") and _docker("version").returncode == 0)


pytestmark = pytest.mark.skipif(
    not _stands(), reason="no Docker daemon here, or no static busybox (apt install docker.io)"
)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(shutil.which("busybox") or "", "bin/busybox")
        for name, text in {"usr/bin/vllm": ENGINE, "www/health/index.html": "ok"}.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o755
            tar.addfile(entry, io.BytesIO(text.encode()))
    made = _docker(
        "import", "--change", "ENV PATH=/usr/bin:/bin", "-", IMAGE, input=packed.getvalue()
    )
    assert made.returncode == 0, made.stderr
    yield IMAGE
    _docker("rmi", "-f", IMAGE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_container_is_left_and_no_secret_is_shown(
    image: str, tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "my server@1.yaml"
    file.write_text(
        "engine: vllm\nenvironment: vllm-cpu\nruntime: docker\nmodel: org/m\n"
        "env: {HF_TOKEN: hf_not_a_real_token}\n"
        f"container: {{image: '{image}', model_cache: {tmp_path / 'cache'}}}\n"
    )
    log = tmp_path / "log"
    command = [sys.executable, "-P", "-m", "aot.scripts.cli", "serve", str(file)]
    process = subprocess.Popen(
        [*command, "--log", str(log)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("base URL: ")
        assert "aot-my-server-1-" in _names()
        lines = log.read_text().splitlines()
        assert lines[1] == "token is hf_not_a_real_token"  # it has arrived, and is said by the stub
        assert "not_a_real" not in lines[0] + _process_list()
    finally:
        process.send_signal(number)
        process.communicate(timeout=60)
    until = time.monotonic() + 40
    while "aot-my-server-1-" in _names():
        assert time.monotonic() < until, "the container outlives the tool"
        time.sleep(0.3)


def _names() -> str:
    return _docker("ps", "-a", "--format", "{{.Names}}").stdout.decode()


def _process_list() -> str:
    return subprocess.run(["ps", "axww"], capture_output=True, check=True, text=True).stdout
