"""One report over two servers, and what it says of servers that somebody else runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.made_run import make

from aot.analysis import report


def edit(path: Path, change: Any) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """The run made by hand, twice: 'two' answers each request 50 ms later than 'one'."""
    run = make(tmp_path / "run")
    phases = run / "phases"
    for arm in ("jit", "auto", "aot"):
        (phases / f"r1-{arm}").rename(phases / f"r1-{arm}@one")
        shutil.copytree(phases / f"r1-{arm}@one", phases / f"r1-{arm}@two")
        records = phases / f"r1-{arm}@two" / "records" / "requests-0.jsonl"
        header, *lines = records.read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        for row in rows:
            row["first_token_s"] += 0.05
            row["chunk_s"][0] += 0.05
        records.write_text("\n".join([header, *map(json.dumps, rows)]) + "\n")
    (run / "tokens-server.parquet").rename(run / "tokens-one.parquet")
    shutil.copy(run / "tokens-one.parquet", run / "tokens-two.parquet")

    def name_both(manifest: dict[str, Any]) -> None:
        (server,) = manifest.pop("servers").values()
        manifest["servers"] = {n: {**server, "versions": {"vllm": n}} for n in ("one", "two")}
        manifest["phases"] = [
            {**p, "server": n, "folder": f"{p['folder']}@{n}"}
            for n in ("one", "two") for p in manifest["phases"]
        ]  # fmt: skip

    edit(run / "manifest.json", name_both)
    return run


def test_each_server_has_its_own_numbers(both: Path) -> None:
    summary = report.evaluate(both).summary
    assert set(summary["servers"]) == {"one", "two"}
    assert "arms" not in summary
    one, two = (summary["servers"][n]["arms"]["aot"]["ttft_s"]["p50"] for n in ("one", "two"))
    assert two - one == pytest.approx(0.05)
    for server in summary["servers"].values():
        cache = server["arms"]["aot"]["cache"]
        assert cache["client_hit_ratio"] == cache["server_hit_ratio"] == cache["expected_hit_ratio"]


def test_the_servers_are_compared_over_the_same_requests(both: Path) -> None:
    between = report.evaluate(both).summary["between_servers"]
    assert [b["arm"] for b in between] == ["jit", "auto", "aot"]
    aot = between[2]
    assert aot["servers"] == ["one", "two"]
    assert aot["pairs"] == 6
    assert aot["ttft_p50_ratio"] == pytest.approx(0.125 / 0.175)  # 0.10 ... 0.15 s, and 0.05 more


def test_the_page_tells_them_apart(both: Path) -> None:
    made = report.write(both)
    for name in ("report.html", "report.md"):
        text = (both / name).read_text()
        assert "one: vllm one" in text
        assert "two: vllm two" in text
        assert "one ÷ two" in text
    assert made.headline.startswith("one: With the static prompts")
    assert "Median TTFT in aot, one ÷ two, is 0.71" in made.headline


def test_a_fault_of_one_server_is_named_with_it(both: Path) -> None:
    proof = both / "phases" / "r1-aot@two" / "proof.json"
    proof.write_text(json.dumps({"problems": ["not empty"]}))
    made = report.evaluate(both)
    void = [f.detail for f in made.findings if f.level == "void"]
    assert void == ["two: r1-aot@two: not empty"]
    assert "two: This run is void" in made.headline
    assert "one: With the static prompts" in made.headline


def test_without_a_manifest_the_folders_tell_the_servers(both: Path) -> None:
    (both / "manifest.json").unlink()
    made = report.evaluate(both)
    assert set(made.summary["servers"]) == {"one", "two"}
    assert made.summary["servers"]["one"]["arms"]["aot"]["requests"]["ok"] == 6


def test_records_carry_the_server(both: Path) -> None:
    import pandas as pd

    report.write(both)
    rows = pd.read_parquet(both / "records.parquet")
    assert rows.groupby(["server", "arm"]).size().to_dict() == {
        (s, a): 6 for s in ("one", "two") for a in ("jit", "auto", "aot")
    }


def remote(run: Path, **proof: Any) -> None:
    edit(run / "manifest.json", lambda m: m["servers"]["server"].update(remote=True))
    for arm in ("jit", "auto", "aot"):
        salts = {"salts": "request" if arm == "jit" else "phase"}
        path = run / "phases" / f"r1-{arm}" / "proof.json"
        path.write_text(json.dumps({"problems": [], **salts, **proof}))


def test_emulated_arms_are_pointed_out(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    remote(run)
    found = [(f.level, f.detail) for f in report.write(run).findings if "remote" in f.check]
    assert found[0][0] == "warning"
    assert found[0][1].startswith("jit is emulated: every request had a cache salt of its own")
    assert "aot and auto started empty by a fresh cache salt" in found[1][1]
    assert "jit is emulated" in (run / "report.html").read_text()


def test_what_could_not_be_known_is_said(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    remote(run, unknown=["the server reports no cached tokens per request"])
    findings = report.evaluate(run).findings
    assert any(
        f.level == "warning" and f.detail == "the server reports no cached tokens per request"
        for f in findings
    )


def test_a_report_made_with_the_attention_hook_says_so(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    config = {"engine": "sglang", "config": {"prefix_attention": True}}
    edit(run / "manifest.json", lambda m: m["servers"]["server"].update(config))
    report.write(run)
    for name in ("report.html", "report.md"):
        assert "prefix_attention was on" in (run / name).read_text()


def test_two_counts_of_the_engine_that_disagree_are_a_warning(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    for name, count in (("before", 0), ("after", 30)):
        page = run / "phases" / "r1-aot" / f"metrics-{name}.txt"
        page.write_text(page.read_text() + f"vllm:prompt_tokens_cached_total {count}\n")
    found = [f for f in report.evaluate(run).findings if "own two counts" in f.check]
    # 48 hits by one counter, 30 by the other, of 90 prompt tokens.
    assert [(f.level, f.detail[:35]) for f in found] == [
        ("warning", "at most 20.00% of the prompt tokens")
    ]


def test_the_canary_is_part_of_what_is_expected(tmp_path: Path) -> None:
    """Where tokens are matched, the template's opening in the canary is found by cold prompts."""
    run = make(tmp_path / "run")
    facts = {"enabled": True, "block_tokens": 1, "capacity_tokens": 1000}
    phase = run / "phases" / "r1-auto"
    (phase / "facts.json").write_text(json.dumps(facts))
    before = report.evaluate(run).summary["arms"]["auto"]["cache"]["expected_hit_ratio"]
    proof = {"problems": [], "canary_token_ids": [100, 101, 102, 7]}  # 3 of the 10 static tokens
    (phase / "proof.json").write_text(json.dumps(proof))
    after = report.evaluate(run).summary["arms"]["auto"]["cache"]["expected_hit_ratio"]
    assert before == pytest.approx(5 * 10 / 90)
    assert after == pytest.approx((3 + 5 * 10) / 90)
