"""Traffic with a memory on the real vLLM: chats and agents with the server's own answers in their
history, the control that shares nothing, and a trace with block ids."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

from aot.analysis import report
from aot.analysis.report import Evaluation
from aot.configs.kernel.places import CONFIGS
from aot.workloads.requests import schedule as schedule_file
from support.live import aot

MODEL = "smollm2-135m"
PROMPTS = CONFIGS / "prompts"
CLOSED = "load: {mode: closed, users: 1}\n"
WORKLOADS = {
    "chat": f"""\
        scenario: multi-turn
        prompt: {PROMPTS}/garden-chat
        requests: 8
        static_tokens: 600
        dynamic_tokens: {{low: 20, high: 60}}
        turns: {{count: {{low: 3, high: 6}}, think_s: 0.02}}
        output: {{max_tokens: {{low: 4, high: 12}}}}
        """,
    "agent": f"""\
        scenario: agent
        prompt: {PROMPTS}/farm-agent
        requests: 9
        static_tokens: 900
        dynamic_tokens: {{low: 30, high: 90}}
        turns: {{count: {{low: 7, high: 9}}, think_s: 0.02}}
        branching: 0.3
        output: {{max_tokens: {{low: 4, high: 12}}}}
        """,
    "unique": """\
        scenario: unique
        requests: 4
        dynamic_tokens: {low: 150, high: 300}
        output: {max_tokens: 2}
        """,
    "rag": f"""\
        scenario: rag
        prompt: {PROMPTS}/rag-desk
        requests: 8
        tenants: {{count: 2, salts: true}}
        static_tokens: 400
        documents: {{count: 8, tokens: 40, per_request: 3}}
        output: {{max_tokens: 2}}
        """,
}
BLOCKS = [[1, 2, 3], [1, 2, 4], [5, 6], [1, 2, 3], [5, 6, 7], [1, 2, 4, 8]]


def _length(ids: list[int]) -> int:
    return 512 * len(ids) - 100


def loaded(files: Path, name: str, traffic: str, url: str) -> Evaluation:
    done = aot("load", traffic, "--url", url, "-o", f"load-{name}", cwd=files)
    assert done.returncode == 0, done.stderr + done.stdout
    return report.evaluate(files / f"load-{name}")


def check(made: Evaluation) -> dict[str, float]:
    """Nothing void, every count as planned, and hits to (nearly) the last token."""
    assert [f for f in made.findings if f.level == "void"] == []
    (planned,) = (f for f in made.findings if f.check == "served prompt tokens as planned")
    assert planned.level == "ok", planned.detail
    cache: dict[str, float] = made.summary["arms"]["auto"]["cache"]
    assert cache["client_hit_ratio"] == cache["server_hit_ratio"]
    return cache


def check_traffic_with_a_memory(files: Path, url: str) -> None:
    """What can be found is found."""
    for name, text in WORKLOADS.items():
        (files / f"{name}.yaml").write_text(dedent(text) + CLOSED)
    rows = [
        {"timestamp": 300 * n, "input_length": _length(ids), "output_length": 40, "hash_ids": ids}
        for n, ids in enumerate(BLOCKS)
    ]
    (files / "trace.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    done = aot(
        "schedule", "trace.jsonl", "-o", "trace-schedule.jsonl", "--model", MODEL,
        "--scale", "0.25", "--max-tokens", "2", cwd=files,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("chat", "agent"):
        cache = check(loaded(files, name, f"{name}.yaml", url))
        assert cache["achieved_of_reachable"] >= 0.95, cache
        assert cache["client_hit_ratio"] > 0.7
    assert check(loaded(files, "unique", "unique.yaml", url))["cached_tokens"] == 0
    cache = check(loaded(files, "rag", "rag.yaml", url))
    assert cache["client_hit_ratio"] == cache["expected_hit_ratio"] > 0.4
    made = loaded(files, "trace", "trace-schedule.jsonl", url)
    cache = check(made)
    # Equal block ids gave equal blocks of the engine.
    assert cache["client_hit_ratio"] == cache["expected_hit_ratio"] > 0.4
    planned = {
        r.id: r.prompt_tokens
        for r in schedule_file.read(files / "trace-schedule.jsonl").requests
    }  # fmt: skip
    assert list(planned.values()) == [round(_length(ids) * 0.25) for ids in BLOCKS]
    frame = made.frame.set_index("id")
    assert frame["prompt_tokens"].to_dict() == planned
