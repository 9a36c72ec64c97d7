"""Servers that are started wrong: `aot check` names what is wrong first."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.adapter import adapter
from support.engine_answers import MODEL, ask, rules, until
from support.live import QUICK, aot, engine_processes, served
from support.salting import salting

from aot.configs.kernel import children
from aot.configs.kernel.places import CONFIGS
from aot.serving.local import models
from aot.serving.local.server import page

pytestmark = pytest.mark.engine


def named(files: Path, url: str, *options: object) -> list[str]:
    done = aot("check", *options, "--url", url, "--seconds", 3, "--json", cwd=files)
    assert done.returncode == 0, done.stderr
    return [fault["name"] for fault in json.loads(done.stdout)["faults"]]


def short(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"{number}: {rules(7, 1)}"}]


def keep_asking(url: str, ended: threading.Event, sent: Iterator[int]) -> None:
    while not ended.is_set():
        ask(url, short(next(sent)), max_tokens=4)


def test_a_vllm_that_says_nothing_and_runs_one_at_a_time(files: Path) -> None:
    text = (
        (CONFIGS / "servers" / "demo.yaml")
        .read_text()
        .replace("block_tokens: 32", "block_tokens: 256")
    )
    wrong = "args: [--no-enable-prompt-tokens-details, --max-num-seqs, '1']\n"
    (files / "wrong.yaml").write_text(text + wrong)
    with served(files, "wrong") as url:
        assert named(files, url) == ["unreported"]
        ended, sent = threading.Event(), itertools.count()
        users = [threading.Thread(target=keep_asking, args=(url, ended, sent)) for _ in range(16)]
        for user in users:
            user.start()
        try:
            until(
                lambda: bool(
                    re.search(r"requests_waiting\{[^}]*\} [1-9]", page(f"{url}/metrics") or "")
                )
            )
            assert "queue" in named(files, url, "--no-requests")
        finally:
            ended.set()
            for user in users:
                user.join()


def test_a_server_without_a_cache(files: Path) -> None:
    for name in ("demo", "demo-sglang"):
        text = (CONFIGS / "servers" / f"{name}.yaml").read_text()
        (files / f"{name}.yaml").write_text(text)
        with served(files, name, arm="jit") as url:
            assert named(files, url) == ["off"]


DATED = (
    "{%- if strftime_now is defined %}Today is {{ strftime_now('%d %B %Y') }}.{% endif %}"
    "{% if mood is defined %}Be {{ mood }}.{% endif %}\n"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def long(number: int, seed: int = 1) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": rules(40, seed)},
        {"role": "user", "content": f"Where is parcel {number}?"},
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_dated_template_and_clients_that_defeat_the_cache(files: Path) -> None:
    (files / "dated.jinja").write_text(DATED)
    text = (CONFIGS / "servers" / "demo.yaml").read_text()
    lora = adapter(files / "polite", Path(models.resolve(MODEL, files)))
    more = f"--enable-lora, --max-lora-rank, '8', --lora-modules, polite={lora}"
    (files / "dated.yaml").write_text(
        text + f"args: [{QUICK}, --chat-template, {files}/dated.jinja, {more}]\n"
    )
    with served(files, "dated") as url:
        assert named(files, url) == ["template-date"]
        with salting(url) as gateway:
            assert named(files, gateway)[0] == "nothing-found"
        moods = [{"chat_template_kwargs": {"mood": mood}} for mood in ("kind", "brief")]
        log = written(files / "moods.jsonl", [ask(url, long(1), **mood) for mood in moods])
        assert why(files, log, 2, "--url", url) == "arguments"
        rows = [ask(url, long(1, 77), model=name) for name in (MODEL, "polite")]
        log = written(files / "adapted.jsonl", rows)
        assert why(files, log, 2, "--url", url, "--model", MODEL) == "adapter"
        rows = [ask(url, long(n), cache_salt=f"request {n}") for n in range(50)]
        assert named(files, url)[0] == "traffic-finds-nothing"
        both = checked(files, url, written(files / "salted.jsonl", rows))
        assert "traffic-finds-nothing" not in [f["name"] for f in both["faults"]]
        assert both["log"]["flaws"][0]["rule"] == "cache-key"
        for row in rows:
            del row["body"]["cache_salt"]
            row["body"]["prompt_logprobs"] = 1
        both = checked(files, url, written(files / "bypassing.jsonl", rows))
        assert "not-looked-up" in [f["name"] for f in both["faults"]]


def checked(files: Path, url: str, log: Path) -> dict[str, Any]:
    done = aot("check", log, "--url", url, "--seconds", 0, "--json", cwd=files)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def test_a_vllm_in_which_little_stays(files: Path) -> None:
    """5,120 tokens: prompts displace each other, and long answers their own requests."""
    text = (CONFIGS / "servers" / "demo.yaml").read_text()
    text = text.replace("cache_gib: 1.0", "cache_gib: 1.0\ncache_tokens: 5120")
    (files / "tight.yaml").write_text(f"{text}args: [{QUICK}]\n")
    with served(files, "tight") as url:
        assert named(files, url) == []
        rows = [ask(url, long(0, 50 + n)) for n in range(9)]
        rows.append(ask(url, long(1, 50)))
        log = written(files / "tight.jsonl", rows)
        assert why(files, log, 10, "--url", url) == "evicted"
        both = checked(files, url, written(files / "tight-twice.jsonl", twice(rows[:9])))
        assert "small-cache" in [f["name"] for f in both["faults"]]
        busy = threading.Thread(target=lambda: [ask(url, long(0, 70 + n)) for n in range(16)])
        busy.start()
        assert "short-life" in named(files, url, "--no-requests")
        busy.join()
        many = [
            threading.Thread(
                target=ask, args=(url, long(n, 90 + n)),
                kwargs={"max_tokens": 400, "ignore_eos": True},
            )
            for n in range(7)
        ]  # fmt: skip
        for thread in many:
            thread.start()
        for thread in many:
            thread.join()
        assert named(files, url)[0] == "preemptions"


def twice(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same requests again, after all of them."""
    more = [{**row, "timestamp": row["timestamp"] + 100} for row in rows]
    return [*rows, *more]


def test_an_sglang_whose_cache_is_too_small(files: Path) -> None:
    text = (CONFIGS / "servers" / "demo-sglang.yaml").read_text()
    (files / "small.yaml").write_text(text.replace("cache_tokens: 23296", "cache_tokens: 2048"))
    with served(files, "small") as url:
        assert named(files, url)[0] == "small-cache"
        others = [[{"role": "user", "content": rules(40, 5 + n)}] for n in range(3)]
        rows = [ask(url, messages) for messages in (long(1), *others, long(2))]
        log = written(files / "small.jsonl", rows)
        assert why(files, log, 5, "--url", url) == "evicted"


def test_an_sglang_that_says_nothing(files: Path) -> None:
    """As somebody starts it by hand: `aot serve` has it report."""
    (files / "dated.jinja").write_text(DATED)
    done = aot("serve", "sglang.yaml", "--dry-run", cwd=files)
    environment, *argv = done.stdout.split()
    name, _, value = environment.partition("=")
    silent = [word for word in argv if word not in ("--enable-cache-report", "--enable-metrics")]
    silent += ["--chat-template", f"{files}/dated.jinja"]
    url = f"http://127.0.0.1:{argv[argv.index('--port') + 1]}"
    process = children.start(
        silent, env={**os.environ, name: value}, cwd=files, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        until = time.monotonic() + 300
        while page(f"{url}/health") is None:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.5)
        assert named(files, url) == ["unreported", "no-metrics", "template-date"]
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        children.insist(process, 20)
        for left in engine_processes():
            left.kill()


def test_replicas_that_take_turns(files: Path) -> None:
    assert aot("router", "install", "vllm-router", cwd=files).returncode == 0
    text = (CONFIGS / "servers" / "replicas-round-robin.yaml").read_text()
    (files / "turns.yaml").write_text(text)
    with served(files, "turns") as url:
        assert named(files, url)[0] == "no-affinity"
        log = written(files / "turns.jsonl", [ask(url, long(n)) for n in range(2)])
        capacity = ("--capacity-tokens", 2560, "--block-tokens", 32)
        assert why(files, log, 2, *capacity, "--tokenizer", MODEL) == "another replica"
        assert why(files, log, 2) == "evicted or another replica"


def why(files: Path, log: Path, line: int, *options: object) -> str:
    done = aot("explain", line, "--log", log, "--json", *options, cwd=files)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["cause"])
