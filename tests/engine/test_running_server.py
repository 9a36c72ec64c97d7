"""Each verb alone against a real server that is up, and experiments on it as a remote one."""

from __future__ import annotations

import json
import os
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import requests
from support import gateways
from support.live import KEY, aot, engine_processes, only_run, served

from aot.analysis import report
from aot.configs.kernel.errors import CacheStateError
from aot.configs.kernel.places import CONFIGS
from aot.scripts.run.session import Session
from aot.scripts.run.target import Up
from aot.serving.client.endpoint import Endpoint
from aot.serving.engines.table import engine

pytestmark = pytest.mark.engine


def far(
    files: Path, name: str, url: str, key: str, arms: str, traffic: str = "traffic.yaml"
) -> Path:
    """An experiment over the running server; the folder of its run."""
    (files / f"far-{name}.yaml").write_text(f"engine: {name}\nruntime: remote\nurl: {url}\n" + key)
    path = files / f"experiment-{name}.yaml"
    path.write_text(
        dedent(f"""\
        name: far-{name}
        server: far-{name}.yaml
        workload: {traffic}
        arms: {arms}
        repeats: 1
        """)
    )
    runs = f"far-{name}-{Path(traffic).stem}"
    done = aot("run", path, "--runs", runs, cwd=files)
    assert done.returncode == 0, done.stderr + done.stdout
    return only_run(files / runs)


def check_far(run: Path) -> None:
    made = report.evaluate(run)
    assert [f for f in made.findings if f.level == "void"] == []
    arms = made.summary["arms"]
    assert arms["jit"]["cache"]["cached_tokens"] == 0
    for numbers in arms.values():
        cache = numbers["cache"]
        ratios = {cache[f"{k}_hit_ratio"] for k in ("client", "server", "expected")}
        assert len(ratios) == 1, cache
    assert arms["aot"]["cache"]["client_hit_ratio"] > 0.9
    assert made.summary["comparison"]["ttft_p50_speedup"] > 1
    assert "jit is emulated" in (run / "report.md").read_text()


def test_vllm_serve_warm_load_and_as_a_remote_server(files: Path) -> None:
    with served(files, "vllm") as url:
        done = aot("warm", "traffic.yaml", "--url", url, cwd=files)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("hit") == 2
        done = aot("load", "traffic.yaml", "--url", url, "--arm", "aot", "-o", "load", cwd=files)
        assert done.returncode == 0, done.stderr
        # The cache is warm from before, and the salts keep the arms apart from that.
        check_far(far(files, "vllm", url, "", "[jit, aot]"))
        check_apart(files, url)
        own_log(files, url)
        ratio = at_every_endpoint(files, url, ("chat", "completions", "responses", "messages"))
        through_gateways(files, url, ratio)
    cache = report.evaluate(files / "load").summary["arms"]["aot"]["cache"]
    assert (
        cache["client_hit_ratio"] == cache["server_hit_ratio"] == cache["expected_hit_ratio"] > 0.9
    )


def own_log(files: Path, url: str) -> None:
    """A log of tool-calling requests of two tenants under three arms: what is static is found in
    its first half, and the second is measured."""
    of_id = {"type": "object", "properties": {"id": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "look_up", "parameters": of_id}}
    call = {"id": "c1", "type": "function",
            "function": {"name": "look_up", "arguments": '{"id": "7"}'}}  # fmt: skip

    def messages(n: int) -> list[dict[str, Any]]:
        rules = " ".join(f"Rule {r} of shop {n % 2}: quote clause {7 * r}." for r in range(24))
        asked = [
            {"role": "system", "content": rules},
            {"role": "user", "content": f"Where is order {n * 31}?"},
        ]
        answered = [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": f'{{"state": "sent", "n": {n}}}'},
        ]
        return asked + (answered if n % 3 == 0 else [])

    rows = [
        {"at_s": 2.0 * n, "model": "theirs", "messages": messages(n), "tools": [tool],
         "tool_choice": "none", "max_tokens": 4, "temperature": 0} for n in range(12)
    ]  # fmt: skip
    (files / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = far(files, "vllm", url, "", "[jit, auto, aot]", "log.jsonl")
    made = report.evaluate(run)
    assert [f for f in made.findings if f.level == "void"] == []
    [replayed] = [f for f in made.findings if f.check == "replayed as it was logged"]
    assert "model: the one that the server has (6 requests)" in replayed.detail
    arms = made.summary["arms"]
    ratios = {arm: numbers["cache"]["client_hit_ratio"] for arm, numbers in arms.items()}
    for numbers in arms.values():
        cache = numbers["cache"]
        assert cache["client_hit_ratio"] == cache["server_hit_ratio"] == cache["expected_hit_ratio"]
    assert ratios["jit"] == 0 < ratios["auto"] < ratios["aot"]
    assert ratios["aot"] > 0.7


def at(files: Path, name: str, url: str, *options: str) -> dict[str, Any]:
    """The numbers of a load in the aot arm; texts are as long as the model's tokenizer says."""
    done = aot(
        "load", "short.yaml", "--url", url, "--tokenizer", "smollm2-135m", "-o", f"at-{name}",
        "--arm", "aot", *options, cwd=files,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout
    arm: dict[str, Any] = report.evaluate(files / f"at-{name}").summary["arms"]["aot"]
    assert arm["requests"] == {"planned": 5, "ok": 5, "failed": 0}
    return arm


def at_every_endpoint(
    files: Path, url: str, endpoints: tuple[str, ...], *options: str
) -> dict[str, float]:
    """The same prompts by each kind of endpoint: the same hits."""
    text = (files / "traffic.yaml").read_text()
    (files / "short.yaml").write_text(f"{text}static_tokens: 416\ndynamic_tokens: 24\n")
    engine_name = "sglang" if "generate" in endpoints else "vllm"
    arms = {e: at(files, f"{engine_name}-{e}", url, "--endpoint", e, *options) for e in endpoints}
    ratios = {e: arm["cache"]["client_hit_ratio"] for e, arm in arms.items()}
    assert ratios == {e: pytest.approx(ratios["chat"]) for e in endpoints}
    assert ratios["chat"] > 0.8
    for arm in arms.values():
        cache = arm["cache"]
        assert cache["client_hit_ratio"] == cache["server_hit_ratio"] == cache["expected_hit_ratio"]
    return ratios


def through_gateways(files: Path, url: str, ratios: dict[str, float]) -> None:
    """What is found is the same, and a gateway that holds streams back is named."""
    with gateways.litellm(files / "litellm", url, "smollm2-135m") as between:
        os.environ["GATEWAY_KEY"] = gateways.MASTER_KEY
        arm = at(files, "litellm", between, "--api-key-env", "GATEWAY_KEY")
        assert arm["cache"]["client_hit_ratio"] == pytest.approx(ratios["chat"])
        assert arm["stream"]["in_one_read"] < 0.5
    if gateways.NGINX is None:
        return  # apt-get install nginx-light
    for packs in (False, True):
        with gateways.nginx(files / f"nginx-{packs}", url, packs) as between:
            options = ("--header", "Accept-Encoding: gzip") if packs else ()
            arm = at(files, f"nginx-{packs}", between, *options)
        assert arm["cache"]["client_hit_ratio"] == pytest.approx(ratios["chat"])
        if packs:  # of five answers on a busy machine some come in one piece anyway
            assert arm["tpot_s"]["p50"] is None
        said = (files / f"at-nginx-{packs}" / "report.md").read_text()
        assert ("not streamed: 5 of 5 answers" in said) == packs


def check_apart(files: Path, url: str) -> None:
    """What tenants have in common is found by all of them, or with `tenant_salts` by none else."""
    for name, more in (("together", ""), ("apart", "tenant_salts: true\n")):
        text = f"engine: vllm\nruntime: remote\nurl: {url}\ntokenizer: smollm2-135m\n"
        (files / f"{name}.yaml").write_text(text + more)
    (files / "common.yaml").write_text(
        dedent(f"""\
        scenario: few-shot
        prompt: {CONFIGS / "prompts" / "ticket-labels"}
        seed: 3
        requests: 6
        tenants: {{count: 3, zipf: 0, shared_tokens: 640}}
        static_tokens: 768
        load: {{mode: closed, users: 1}}
        output: {{max_tokens: 2}}
        """)
    )
    (files / "tenants.yaml").write_text(
        "name: tenants\nservers: [together.yaml, apart.yaml]\nworkload: common.yaml\n"
        "arms: [auto]\nrepeats: 1\n"
    )
    done = aot("run", "tenants.yaml", "--runs", "tenants", cwd=files)
    assert done.returncode == 0, done.stderr + done.stdout
    servers = report.evaluate(only_run(files / "tenants")).summary["servers"]
    ratios = {}
    for name, server in servers.items():
        cache = server["arms"]["auto"]["cache"]
        found = {cache[f"{k}_hit_ratio"] for k in ("client", "server", "expected")}
        assert len(found) == 1, (name, cache)
        ratios[name] = found.pop()
    assert ratios["together"] > ratios["apart"] + 0.15


def test_sglang_with_a_key_and_as_a_remote_server(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2E_KEY", KEY)
    with served(files, "hooked") as url:
        key = ("--api-key-env", "E2E_KEY")
        assert aot("warm", "traffic.yaml", "--url", url, cwd=files).returncode == 1
        done = aot("warm", "traffic.yaml", "--url", url, *key, cwd=files)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("hit") == 2
        check_far(far(files, "sglang", url, "api_key_env: E2E_KEY\n", "[jit, auto, aot]"))
        endpoints = ("chat", "completions", "responses", "messages", "generate")
        at_every_endpoint(files, url, endpoints, *key)
        refuse_to_flush(url)
        lines = [" ".join(p.cmdline()) for p in engine_processes()]
        assert not any(KEY in line for line in lines)
    assert KEY not in (files / "hooked.log").read_text()
    run = only_run(files / "far-sglang-traffic")
    assert json.loads((run / "manifest.json").read_text())["servers"]["far-sglang"]["versions"] == {
        "sglang": "0.5.23"
    }


def refuse_to_flush(url: str) -> None:
    """While a request runs for longer than the flush waits, the reset is refused by name."""
    body = {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "Count for ever."}],
        "max_tokens": 3000,
        "ignore_eos": True,
        "stream": True,
    }
    endpoint = Endpoint(url, "smollm2-135m", "E2E_KEY")
    target = type("Target", (), {"name": "hooked", "engine": engine("sglang")})()
    session = Session("endpoint")
    headers = {"Authorization": f"Bearer {KEY}"}
    with requests.post(
        f"{url}/v1/chat/completions", json=body, headers=headers, stream=True, timeout=60
    ) as answer:
        lines = answer.iter_lines()  # kept: were it collected, the request would be aborted
        assert next(lines).startswith(b"data: ")  # it runs
        with pytest.raises(CacheStateError, match="requests were still running or waiting after"):
            session._reset(Up(endpoint, None, lambda: True), target)
