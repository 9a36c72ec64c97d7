"""Real gateways in front of a real server: LiteLLM's proxy from its package, nginx from Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import requests

from aot.configs.kernel.ports import free_port
from aot.serving.local.packages import installer, pip_of

MASTER_KEY = "sk-4f9d8a7c6b5e4d3c2b1a0f9e8d7c6b5a"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
READY_S = 120.0


@contextmanager
def nginx(folder: Path, url: str, packs: bool) -> Iterator[str]:
    """nginx as a reverse proxy, set to pass streams on; with `packs` as it comes, and told to gzip
    what it can, and so it holds them back."""
    assert NGINX is not None
    folder.mkdir()
    port = free_port("127.0.0.1")
    packed = "gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any;" if packs else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        dedent(f"""\
        daemon off; pid {folder}/pid; error_log {folder}/error.log;
        events {{}}
        http {{ access_log off; {temporary} {packed}
          server {{ listen 127.0.0.1:{port}; location / {{
            proxy_pass {url}; proxy_buffering {"on" if packs else "off"}; }} }} }}
        """)
    )
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with _running(command, folder / "nginx.log", f"http://127.0.0.1:{port}/v1/models") as base:
        yield base


@contextmanager
def litellm(folder: Path, url: str, model: str) -> Iterator[str]:
    """LiteLLM's proxy, in an environment of its own."""
    folder.mkdir()
    tool, place = installer(), folder / "env"
    env = {**os.environ, **tool.env}
    subprocess.run(tool.create(sys.executable, place), env=env, check=True)
    packages = ("litellm[proxy]==1.106.0", "prisma")
    command = tool.install(str(place / "bin" / "python"), "--quiet", *packages)
    subprocess.run(command, env=env, check=True)
    # Two wheels of one version: uv takes the one that needs the system's libsndfile, pip the other.
    sound = ("install", "--quiet", "--no-deps", "--force-reinstall", "soundfile")
    subprocess.run([*pip_of(str(place / "bin" / "python")), *sound], check=True)
    port = free_port("127.0.0.1")
    (folder / "config.yaml").write_text(
        dedent(f"""\
        model_list:
          - model_name: {model}
            litellm_params: {{model: hosted_vllm/{model}, api_base: "{url}/v1"}}
        litellm_settings: {{telemetry: false}}
        """)
    )
    command = [str(place / "bin" / "litellm"), "--config", str(folder / "config.yaml")]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    settings = {"LITELLM_MASTER_KEY": MASTER_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    where = f"http://127.0.0.1:{port}/v1/models"
    with _running(command, folder / "litellm.log", where, settings) as base:
        yield base


@contextmanager
def _running(
    command: list[str], log: Path, asked: str, env: dict[str, str] | None = None
) -> Iterator[str]:
    """Until it answers; the base URL."""
    headers = {"Authorization": f"Bearer {MASTER_KEY}"}
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, **(env or {})}
        )
    try:
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                if requests.get(asked, headers=headers, timeout=5).status_code == 200:
                    break
            except requests.RequestException:
                time.sleep(0.2)
        yield asked.removesuffix("/v1/models")
    finally:
        process.terminate()
        process.wait(30)
