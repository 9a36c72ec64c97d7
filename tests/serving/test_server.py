"""Starting and stopping, on a script in the engine's place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support import processes
from support.stub import serving

from aot.configs.kernel.errors import LaunchError, UsageError
from aot.configs.kernel.ports import PORTS, free_port
from aot.scripts.run import launch


def child_pid(log: Path) -> int:
    return int(log.read_text().split("INFO child ")[1].split()[0])


def gone(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        psutil.wait_procs([psutil.Process(pid)], timeout=20)
    return processes.gone(pid)


def test_a_healthy_engine_is_up_inside_the_block_and_gone_after_it(
    fake_engine: Path, tmp_path: Path
) -> None:
    log = tmp_path / "server.log"
    with launch.prepare(fake_engine).up("aot", log) as server:
        assert server.alive
        assert server.plan.base_url.startswith("http://127.0.0.1:")
        child = child_pid(log)
        assert psutil.pid_exists(child)
    assert not server.alive
    assert gone(child)  # though it had a session of its own
    assert log.read_text().startswith("$ ")


def test_an_exception_in_the_block_stops_the_engine(fake_engine: Path, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with pytest.raises(ZeroDivisionError), launch.prepare(fake_engine).up("aot", log):
        _ = 1 // 0
    assert gone(child_pid(log))


def test_an_engine_that_dies_shows_command_exit_code_and_the_telling_line(
    fake_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "dies")
    log = tmp_path / "server.log"
    with pytest.raises(LaunchError) as caught, launch.prepare(fake_engine).up("aot", log):
        pass
    message = str(caught.value)
    assert "died at start-up with exit code 3" in message
    assert "ValueError: no kernel image for this device" in message
    assert "INFO loading weights" not in message
    assert "vllm serve" in message
    assert str(log) in message


def test_an_engine_that_never_becomes_healthy_is_stopped(
    fake_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_MODE", "never-healthy")
    fake_engine.write_text(
        fake_engine.read_text().replace("startup_timeout_s: 60", "startup_timeout_s: 1")
    )
    log = tmp_path / "server.log"
    with pytest.raises(LaunchError, match=r"not healthy after 1 s \(startup_timeout_s"):
        launch.prepare(fake_engine).up("aot", log).__enter__()
    assert gone(child_pid(log))


def test_a_port_in_use_is_named_with_the_remedy(fake_engine: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        fake_engine.write_text(fake_engine.read_text() + f"port: {port}\n")
        with pytest.raises(LaunchError, match=rf"port {port} on 127.0.0.1 is in use.*port: 0"):
            launch.prepare(fake_engine).up("aot", tmp_path / "log").__enter__()
    assert not (tmp_path / "log").exists()


def test_another_process_that_answers_is_not_taken_for_the_engine(
    fake_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The port was free when it was chosen, and somebody else got it before the engine listened."""
    monkeypatch.setenv("FAKE_MODE", "never-healthy")
    with serving() as stub:
        port = int(stub.base_url.rpartition(":")[2])
        monkeypatch.setattr("aot.serving.local.server.check_port", lambda host, port: None)
        fake_engine.write_text(fake_engine.read_text() + f"port: {port}\n")
        log = tmp_path / "server.log"
        with pytest.raises(LaunchError, match=rf"another process answers on port {port}, not the"):
            launch.prepare(fake_engine).up("aot", log).__enter__()


def test_a_free_port_is_below_the_ephemeral_range() -> None:
    assert {free_port("127.0.0.1") in PORTS for _ in range(20)} == {True}


def test_a_key_that_is_not_set_is_named(fake_engine: Path, tmp_path: Path) -> None:
    fake_engine.write_text(fake_engine.read_text() + "api_key_env: NO_SUCH_KEY\n")
    with pytest.raises(UsageError, match="NO_SUCH_KEY is not set"):
        launch.prepare(fake_engine).up("aot", tmp_path / "log").__enter__()
    assert not (tmp_path / "log").exists()


def test_a_proxy_does_not_stand_between_us_and_loopback(
    fake_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with launch.prepare(fake_engine).up("aot", tmp_path / "log") as server:
        assert server.alive


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_command_is_stopped(
    fake_engine: Path, tmp_path: Path, number: signal.Signals
) -> None:
    log = tmp_path / "server.log"
    command = [
        sys.executable,
        "-P",
        "-m",
        "aot.scripts.cli",
        "serve",
        str(fake_engine),
        "--log",
        str(log),
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=dict(os.environ),
        # Where the tests run in the background, Ctrl-C is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(4)]
    assert lines[0].startswith("base URL: http://127.0.0.1:")
    assert lines[1] == "model: tiny\n"
    assert lines[3].startswith("curl http://127.0.0.1:")
    child = child_pid(log)
    process.send_signal(number)
    code = process.wait(40)
    process.stdout.close()
    assert code == (-9 if number == signal.SIGKILL else 128 + number)
    assert gone(child)


def test_the_environment_of_a_server_file_chooses_no_code_of_ours(
    fake_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine gets its PYTHONPATH; the supervisor that starts it imports nothing from there, nor
    from the working directory."""
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("psutil", "aot"):
        (trap / f"{name}.py").write_text("raise SystemExit('a trap was imported')\n")
    fake_engine.write_text(fake_engine.read_text() + f"env: {{PYTHONPATH: {trap}}}\n")
    script = tmp_path / "home" / ".engines" / "vllm-cpu" / "bin" / "vllm"
    said = "print('path', os.environ['PYTHONPATH'], flush=True)\nmode = "
    script.write_text(script.read_text().replace("mode = ", said, 1))
    monkeypatch.chdir(trap)
    log = tmp_path / "server.log"
    with launch.prepare(fake_engine).up("aot", log) as up:
        assert up.alive
        assert f"path {trap}" in log.read_text()
