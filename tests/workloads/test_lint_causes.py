"""Causes as agents, gateways and chat front ends have had them: found at the place, under no false
name, at the cost that a slow comparison of prompts gives; and nothing in the corrected twin."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from support.lint_cases import PROSE, RULES_TEXT, TOOLS, conversation

from aot.workloads.lint import log as lint_log
from aot.workloads.lint import seen
from aot.workloads.logs.bodies import Logged

Body = dict[str, Any]
TALKS, TURNS = 5, 8
SYSTEM = {"role": "system", "content": PROSE}
DOCUMENT = "<document>" + " ".join(PROSE.split()[60:320]) + "</document>"
ENTRIES = [
    f"<skill>{name}: {RULES_TEXT[i * 9 : i * 9 + 90]}</skill>" for i, name in enumerate("abcdefgh")
]
RANDOM = random.Random(8)


def talk(t: int, k: int) -> list[Body]:
    """Turn k of talk t."""
    return [{**m, "content": f"{m['content']} ({t})"} for m in conversation(k)]


def with_calls(t: int, k: int, id_: Callable[[int], str], keep: int = 99) -> list[Body]:
    """An agent's steps; results older than `keep` steps are cleared."""
    turns: list[Body] = [{"role": "user", "content": f"Mend the valve of job {t}, please."}]
    for j in range(k + 1):
        call = {"name": "look_up", "arguments": json.dumps({"row": j, "job": t})}
        said = f"row {j} of {t}: " + RULES_TEXT[j * 11 : j * 11 + 240]
        shown = said if j > k - keep else "[cleared]"
        turns += [
            {"role": "assistant", "content": None,
             "tool_calls": [{"id": id_(j), "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": id_(j), "content": shown},
        ]  # fmt: skip
    return turns


def sessions(make: Callable[[int, int], Body]) -> list[Body]:
    return [make(t, k) for t in range(TALKS) for k in range(TURNS)]


def chat(system: str, turns: list[Body], **more: Any) -> Body:
    return {"model": "m", "messages": [{"role": "system", "content": system}, *turns], **more}


def shuffled(items: list[Any]) -> list[Any]:
    return RANDOM.sample(items, len(items))


def files(t: int, k: int) -> str:
    return "<files>\n" + "".join(f"out/{t}_{j}.txt\n" for j in range(k + 1)) + "</files>\n"


def anew(j: int) -> str:
    return f"call_{RANDOM.getrandbits(96):x}"


def thinking(t: int, k: int) -> list[Body]:
    said = f"{k} " + RULES_TEXT[:300]
    return [{**m, "reasoning_content": said} if m["role"] == "assistant" else m for m in talk(t, k)]


def moving(t: int, k: int) -> Body:
    turns = talk(t, k)
    turns[-1] = {**turns[-1], "content": f"{DOCUMENT}\n{turns[-1]['content']}"}
    return chat(PROSE, turns)


def kept(t: int, k: int) -> Body:
    turns = talk(t, k)
    turns[0] = {**turns[0], "content": f"{DOCUMENT}\n{turns[0]['content']}"}
    return chat(PROSE, turns)


CASES: dict[str, tuple[str, str, list[Body], list[Body]]] = {
    "clock of a memory block": (
        "volatile-time", "messages[0].content",
        sessions(lambda t, k: chat(f"Clock: 2026-09-14T09:{t}{k}:11.237Z\n{PROSE}", talk(t, k))),
        sessions(lambda t, k: chat(PROSE, talk(t, k))),
    ),
    "skills in the order of a set": (
        "list-order", "messages[0].content",
        sessions(lambda t, k: chat("".join(shuffled(ENTRIES)) + PROSE, talk(t, k))),
        sessions(lambda t, k: chat("".join(ENTRIES) + PROSE, talk(t, k))),
    ),
    "files of the working folder": (
        "dynamic-first", "messages[0].content",
        sessions(lambda t, k: chat(files(t, k) + PROSE, talk(t, k))),
        sessions(lambda t, k: chat(PROSE, talk(t, k))),
    ),
    "a document that follows the last turn": (
        "document-moves", "messages[1].content", sessions(moving), sessions(kept),
    ),
    "ids of calls made anew": (
        "call-ids", "messages[2].tool_calls[0].id",
        sessions(lambda t, k: chat(PROSE, with_calls(t, k, anew))),
        sessions(lambda t, k: chat(PROSE, with_calls(t, k, lambda j: f"call_{t}{j}"))),
    ),
    "tool results cleared": (
        "history-rewritten", "messages[3].content",
        sessions(lambda t, k: chat(PROSE, with_calls(t, k, lambda j: f"call_{t}{j}", keep=3))),
        sessions(lambda t, k: chat(PROSE, with_calls(t, k, lambda j: f"call_{t}{j}"))),
    ),
    "keys of a schema rotate": (
        "key-order", "tools[0]",
        sessions(lambda t, k: chat(PROSE, talk(t, k), tools=[
            {"type": "function", "function": dict(shuffled(list(tool["function"].items())))}
            for tool in TOOLS])),
        sessions(lambda t, k: chat(PROSE, talk(t, k), tools=TOOLS)),
    ),
    "effort flips": (
        "template-arguments", "chat_template_kwargs",
        sessions(lambda t, k: chat(PROSE, talk(t, k), chat_template_kwargs={"e": "ab"[k % 2]})),
        sessions(lambda t, k: chat(PROSE, talk(t, k), chat_template_kwargs={"e": "a"})),
    ),
    "a cache key for every request": (
        "cache-key", "prompt_cache_key",
        sessions(lambda t, k: chat(PROSE, talk(t, k), prompt_cache_key=f"{t}-{k}")),
        sessions(lambda t, k: chat(PROSE, talk(t, k), prompt_cache_key="one")),
    ),
    "reasoning is another every time": (
        "reasoning-changed", "messages[2].reasoning_content",
        sessions(lambda t, k: chat(PROSE, thinking(t, k))),
        sessions(lambda t, k: chat(PROSE, talk(t, k))),
    ),
    "one role, then the other": (
        "role-changed", "messages[0].role",
        sessions(lambda t, k: {"messages": [
            {**SYSTEM, "role": ("system", "developer")[(t + k) % 2]}, *talk(t, k)]}),
        sessions(lambda t, k: {"messages": [SYSTEM, *talk(t, k)]}),
    ),
}  # fmt: skip


def alike(one: str, other: str) -> int:
    """Characters that both begin with."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


SHOWN = ("reasoning_content", "content", "tool_calls", "tool_call_id")


def rendered(body: Body) -> str:
    turns = [
        f"<{m['role']}>" + "".join(str(m.get(field) or "") for field in SHOWN)
        for m in body["messages"]
    ]
    return json.dumps(body.get("tools", [])) + "".join(turns)


def computed(rows: list[Body]) -> int:
    """Characters that no earlier prompt began with, by comparing each with all before it."""
    total, before = 0, []
    for body in rows:
        apart = str([body.get(k) for k in ("prompt_cache_key", "chat_template_kwargs")])
        prompt = rendered(body)
        total += len(prompt) - max((alike(prompt, p) for a, p in before if a == apart), default=0)
        before.append((apart, prompt))
    return total


def lint(rows: list[Body]) -> lint_log.LogReport:
    log = [seen.of(Logged("chat", body), n, {}) for n, body in enumerate(rows, 1)]
    return lint_log.lint(log, "log.jsonl", 0.25)


@pytest.mark.parametrize("case", CASES)
def test_a_cause_is_found_at_its_place_and_cost(case: str) -> None:
    rule, place, broken, clean = CASES[case]
    found = lint(broken)
    assert [(f.rule, f.field) for f in found.flaws] == [(rule, place)]
    cost = (computed(broken) - computed(clean)) / 4 / len(broken)
    if len(json.dumps(broken)) < 1.02 * len(json.dumps(clean)):  # the twin says the same
        assert found.flaws[0].tokens_per_request == pytest.approx(cost, rel=0.1)
    else:
        assert found.flaws[0].tokens_per_request == pytest.approx(cost, rel=0.25)


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_found_in_the_corrected_twin(case: str) -> None:
    assert lint(CASES[case][3]).flaws == []


def alike_agents(t: int, k: int) -> Body:
    """Steps and results that are the same in every job but for its ids."""
    turns: list[Body] = [{"role": "user", "content": f"job {t}"}]
    for j in range(k + 1):
        call = {"name": "q", "arguments": json.dumps({"row": j}, indent=2)}
        result = json.dumps({"rows": [1, 2], "ok": True}, indent=4)
        turns += [
            {"role": "assistant", "content": None,
             "tool_calls": [{"id": f"t{t}-{j}", "type": "function", "function": call}]},
            {"role": "tool", "tool_call_id": f"t{t}-{j}", "content": result},
        ]  # fmt: skip
    return chat(PROSE, turns)


def alike_chats(t: int, k: int) -> Body:
    """Other questions that end alike, and other answers that do."""
    words = PROSE.split()
    turns = [
        {**m, "content": " ".join(words[t * 41 + n * 7 :][:18]) + f" {n}, {t}: {RULES_TEXT[-45:]}"}
        for n, m in enumerate(talk(t, k))
    ]
    return chat(PROSE, turns)


@pytest.mark.parametrize("make", [alike_agents, alike_chats])
def test_what_conversations_have_in_common_by_chance_is_not_lost(
    make: Callable[[int, int], Body],
) -> None:
    found = lint(sessions(make))
    assert found.flaws == []
    assert found.ideal_tokens == pytest.approx(found.computed_tokens, rel=0.01)
