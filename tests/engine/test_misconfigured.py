"""Servers that are started wrong: `aot check` names what is wrong first."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from support.engine_answers import ask, rules
from support.live import aot, served

from aot.configs.kernel.places import CONFIGS

pytestmark = pytest.mark.engine


def named(files: Path, url: str, *options: object) -> list[str]:
    done = aot("check", *options, "--url", url, "--seconds", 3, "--json", cwd=files)
    assert done.returncode == 0, done.stderr
    return [fault["name"] for fault in json.loads(done.stdout)["faults"]]


def short(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{number}: {rules(7, 1)}"}]


def test_a_vllm_with_large_blocks_that_says_nothing_and_runs_one_at_a_time(files: Path) -> None:
    text = (
        (CONFIGS / "servers" / "demo.yaml")
        .read_text()
        .replace("block_tokens: 32", "block_tokens: 256")
    )
    wrong = "args: [--no-enable-prompt-tokens-details, --max-num-seqs, '1']\n"
    (files / "wrong.yaml").write_text(text + wrong)
    with served(files, "wrong") as url:
        assert named(files, url) == ["unreported"]
        # Prompts of some 200 tokens, of which a block of 256 keeps nothing; and more than fit.
        waiting = [
            threading.Thread(target=ask, args=(url, short(n)), kwargs={"max_tokens": 4})
            for n in range(110)
        ]
        for thread in waiting:
            thread.start()
        assert "queue" in named(files, url, "--no-requests")
        for thread in waiting:
            thread.join()
        assert named(files, url)[0] == "below-a-block"


def test_a_server_without_a_cache(files: Path) -> None:
    for name in ("demo", "demo-sglang"):
        text = (CONFIGS / "servers" / f"{name}.yaml").read_text()
        (files / f"{name}.yaml").write_text(text)
        with served(files, name, "jit") as url:
            assert named(files, url) == ["off"]
