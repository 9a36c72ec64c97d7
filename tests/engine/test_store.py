"""A KV store that outlives the real engine: LMCache beside vLLM, ended and started again."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

import pytest
from support.live import aot, engine_processes

pytestmark = pytest.mark.engine


def test_what_was_compiled_is_there_after_a_restart(files: Path) -> None:
    done = aot("store", "install", "lmcache", cwd=files)
    assert done.returncode == 0, done.stderr
    server = (files / "vllm.yaml").read_text()
    (files / "stored.yaml").write_text(server + "store: {disk: kv-store, chunk_tokens: 64}\n")
    # Compiled into it once, by a server that is gone afterwards.
    into = ("--into", "stored.yaml", "-o", "into.json", "--var", "tenant=Acme")
    done = aot("compile", "support-bot", *into, cwd=files)
    assert done.returncode == 0, done.stderr[-3000:]
    assert engine_processes() == []
    shown = aot("store", "list", "stored.yaml", cwd=files)
    assert shown.returncode == 0, shown.stdout
    assert "there" in shown.stdout.splitlines()[-1]
    (files / "restarted.yaml").write_text(
        dedent("""\
        name: restarted
        server: stored.yaml
        workload: traffic.yaml
        arms: [auto, restarted]
        repeats: 1
        """)
    )
    done = aot("run", "restarted.yaml", "--runs", "restarted", cwd=files)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "After a restart of engine and store" in done.stdout
    (path,) = (files / "restarted").glob("*/summary.json")
    summary = json.loads(path.read_text())
    arms = summary.get("arms") or next(iter(summary["servers"].values()))["arms"]
    first, cold = arms["restarted"]["firsts"], arms["auto"]["firsts"]
    assert cold["cached_tokens"] == 0
    assert first["cached_tokens"] > 0.9 * first["prompt_tokens"]
    store = arms["restarted"]["store"]  # by its own counters
    assert (store["memory_tokens"], store["failed_chunks"]) == (0, 0)
    assert store["used_tokens"] == first["cached_tokens"] <= store["disk_tokens"]
    tiers, cache = arms["restarted"]["cache"]["tiers"], arms["restarted"]["cache"]
    assert tiers["store"] == first["cached_tokens"]
    assert sum(tiers.values()) == cache["cached_tokens"]
    assert engine_processes() == []
