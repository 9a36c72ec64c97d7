"""Each verb alone against a real server that is up, and experiments on it as a remote one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from support import gateways
from support.engine_answers import check_checked, check_explained, check_live
from support.engine_audit import check_what_tenants_see
from support.engine_remote import at, at_every_endpoint, check_far, far
from support.engine_traffic import check_traffic_with_a_memory
from support.live import aot, only_run, served
from support.scraped import check_scraped

from aot.analysis import report
from aot.configs.kernel.places import CONFIGS

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def vllm(files: Path) -> Iterator[str]:
    """One vLLM for all tests on it: a start takes longer than most of them."""
    with served(files, "quick") as url:
        yield url


def test_vllm_warm_load_and_as_a_remote_server(files: Path, vllm: str) -> None:
    url = vllm
    done = aot("warm", "traffic.yaml", "--url", url, cwd=files)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("hit") == 2
    done = aot("load", "traffic.yaml", "--url", url, "--arm", "aot", "-o", "load", cwd=files)
    assert done.returncode == 0, done.stderr
    # The cache is warm from before, and the salts keep the arms apart from that.
    check_far(far(files, "vllm", url, "", "[jit, aot]"))
    check_apart(files, url)
    cache = report.evaluate(files / "load").summary["arms"]["aot"]["cache"]
    assert (
        cache["client_hit_ratio"] == cache["server_hit_ratio"] == cache["expected_hit_ratio"] > 0.9
    )


def test_endpoints_and_gateways_of_vllm(files: Path, vllm: str) -> None:
    ratio = at_every_endpoint(files, vllm, ("chat", "completions", "responses", "messages"))
    through_gateways(files, vllm, ratio)


def test_prometheus_scrapes_vllm_and_evaluates_its_rules(files: Path, vllm: str) -> None:
    check_scraped(files, "quick", vllm)


def test_traffic_with_a_memory_finds_what_can_be_found(files: Path, vllm: str) -> None:
    check_traffic_with_a_memory(files, vllm)


def test_tenants_on_vllm_see_each_other_without_salts_and_not_with_them(
    files: Path, vllm: str
) -> None:
    check_what_tenants_see(files, "vllm", vllm)


def test_ones_own_log_under_three_arms(files: Path, vllm: str) -> None:
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
    run = far(files, "vllm", vllm, "", "[jit, auto, aot]", "log.jsonl")
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


def test_planted_flaws_are_watched_explained_and_measured(files: Path, vllm: str) -> None:
    log = check_live(files, "vllm", vllm, f"ipc://{files}/quick.sock", 32, None)
    check_explained(files, log, vllm, None)
    check_checked(files, log, vllm, None)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    clocked = [{**row, "timestamp": 2.0 * n} for n, row in enumerate(rows) if row["app"] == "clock"]
    (files / "clocked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in clocked))
    options = ("--url", vllm, "--repeats", 1, "--runs", "measured")
    done = aot("run", "--log", "clocked.jsonl", *options, cwd=files)
    assert done.returncode == 0, done.stderr
    (run,) = (p for p in (files / "measured").iterdir() if p.is_dir())
    made = report.evaluate(run)
    assert [f for f in made.findings if f.level == "void"] == []
    arms = made.summary["arms"]
    assert list(arms) == ["jit", "auto", "mended"]
    for numbers in arms.values():
        cache = numbers["cache"]
        assert cache["client_hit_ratio"] == cache["server_hit_ratio"] == cache["expected_hit_ratio"]
    found = [arms[arm]["cache"]["client_hit_ratio"] for arm in arms]
    assert found[0] == 0 <= found[1] < 0.1 < 0.6 < found[2]
    assert "flaws of their prompts mended" in (run / "report.md").read_text()


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
