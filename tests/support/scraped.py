"""A real Prometheus beside a real engine: our scraping, our rules, our dashboard's queries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from aot.configs.kernel.ports import free_port
from support.engine_answers import MODEL, rules
from support.live import aot

PROMETHEUS = shutil.which("prometheus")
"""apt-get install prometheus."""
FOR_S = 45.0


def check_scraped(files: Path, name: str, url: str, key: str | None = None) -> None:
    """Rules evaluate without an error, the recorded series are there, and every panel has data."""
    if PROMETHEUS is None:
        return
    folder = files / f"prometheus-{name}"
    folder.mkdir()
    text = (files / f"{name}.yaml").read_text()
    (folder / f"{name}.yaml").write_text(f"{text}port: {urllib.parse.urlsplit(url).port}\n")
    made = {}
    for target, file in (
        ("prometheus", "prometheus.yml"), ("prometheus-rules", "aot-rules.yml"),
        ("grafana", "board.json"),
    ):  # fmt: skip
        done = aot("render", f"{name}.yaml", "--target", target, "-o", file, cwd=folder)
        assert done.returncode == 0, done.stderr
        made[target] = (folder / file).read_text()
    config = yaml.safe_load(made["prometheus"])
    config["scrape_configs"][0]["scrape_interval"] = "2s"
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port("127.0.0.1")
    process = subprocess.Popen(
        [PROMETHEUS, "--config.file=prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{port}"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        began = time.monotonic()
        while time.monotonic() - began < FOR_S:
            _stream(url, key)
            time.sleep(1.0)
        _check(f"http://127.0.0.1:{port}", json.loads(made["grafana"]))
    finally:
        process.terminate()
        process.wait()


def _stream(url: str, key: str | None) -> None:
    """SGLang has the time to a first token of streams."""
    asked = [{"role": "user", "content": rules(12, 900)}]
    body = {"model": MODEL, "messages": asked, "max_tokens": 4, "stream": True}
    bearer = {"Authorization": f"Bearer {os.environ[key]}"} if key else {}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(),
        {"Content-Type": "application/json", **bearer},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def _check(base: str, board: dict[str, Any]) -> None:
    groups = _get(base, "rules")["groups"]
    every = [rule for group in groups for rule in group["rules"]]
    assert every
    assert [r["lastError"] for r in every if r.get("lastError")] == []
    for name in ("aot:prefix_cache_hit_ratio:rate5m", "aot:ttft_p50_s:rate5m"):
        (sample,) = _query(base, name)
        assert float(sample["value"][1]) > 0, name
        assert {"job", "engine"} <= sample["metric"].keys()
    for panel in board["panels"]:
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", "30s")
            for variable in ("namespace", "job", "model_name"):
                expr = expr.replace(f"${variable}", ".*")
            assert _query(base, expr), (panel["title"], expr)


def _query(base: str, expr: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _get(base, f"query?{urllib.parse.urlencode({'query': expr})}")[
        "result"
    ]
    return found


def _get(base: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{base}/api/v1/{path}", timeout=10) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
        return data
