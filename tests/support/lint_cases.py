"""Prompts and logs with one real-world cause each that breaks prefix reuse, and clean ones."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from typing import Any

from aot.configs.kernel.places import CONFIGS

PROSE = (CONFIGS / "prompts" / "support-bot" / "system_prompt.txt").read_text()
PROSE = PROSE.replace("{{ tenant }}", "Northgate")
RULES_TEXT = " ".join(PROSE.split()[40:110])
OTHER = " ".join(reversed(PROSE.split()[:90]))
ASK = "{{ question }}"

Files = dict[str, str]


def folder(system: str = PROSE, ask: str = ASK, **files: str) -> Files:
    made = {"system_prompt.txt": system, "dynamic_templates/ask.jinja2": ask}
    return made | {k.replace("__", "/").replace("_DOT_", "."): v for k, v in files.items()}


BROKEN_FOLDERS: dict[str, tuple[str, Files]] = {
    "clock in the first line": ("volatile-time", folder("Current time: 2026-03-01T09:15:22Z\n" + PROSE)),
    "today is": ("volatile-time", folder("You help. Today is Monday, March 2, 2026.\n" + PROSE)),
    "date variable": ("volatile-time", folder("Date: {{ current_date }}\n" + PROSE)),
    "now() call": ("volatile-time", folder("It is {{ now() }}.\n" + PROSE)),
    "f-string date": ("volatile-time", folder("Today: {today}\n" + PROSE)),
    "shell placeholder": ("volatile-time", folder("Generated ${TIMESTAMP}\n" + PROSE)),
    "generated at": ("volatile-time", folder(PROSE + "\nGenerated at 2026-03-01 09:15\n")),
    "timestamp epoch": ("volatile-time", folder("timestamp: 1772355322\n" + PROSE)),
    "request id": ("volatile-id", folder("Request ID: req_8f3a9c21d4\n" + PROSE)),
    "session uuid": ("volatile-id", folder(f"Session: {uuid.UUID(int=2**100)}\n" + PROSE)),
    "session variable": ("volatile-id", folder("Session {{ session_id }}\n" + PROSE)),
    "trace comment": ("volatile-id", folder("<!-- trace_id=4bf92f3577b34da6a3ce929d0e0e4736 -->\n" + PROSE)),
    "camel case id": ("volatile-id", folder("Ref {{ conversationId }}.\n" + PROSE)),
    "nonce": ("volatile-random", folder("nonce=ab12cd34ef\n" + PROSE)),
    "cache buster": ("volatile-random", folder("cache-buster: 99a8b7\n" + PROSE)),
    "random filter": ("volatile-random", folder("{{ ['Hi', 'Hello'] | random }}\n" + PROSE)),
    "counter": ("volatile-counter", folder("You are answering request #48213.\n" + PROSE)),
    "turn number": ("volatile-counter", folder("Turn number: 7\n" + PROSE)),
    "user name": ("user-in-prefix", folder("The user's name is {{ user_name }}.\n" + PROSE)),
    "user name literal": ("user-in-prefix", folder("User name: Alice Johnson\n" + PROSE)),
    "user e-mail": ("user-in-prefix", folder("Logged in as alice@example.org\n" + PROSE)),
    "locale": ("user-in-prefix", folder("Reply in {{ locale }}.\n" + PROSE)),
    "shuffled examples": ("example-order", folder(few_shot_examples_DOT_txt="{% for e in ['Q: a', 'Q: b'] | shuffle %}{{ e }}{% endfor %}")),
    "question before rules": ("dynamic-first", folder(ask="{{ question }}\n\n" + RULES_TEXT)),
    "id before rules in the user message": ("dynamic-first", folder(ask="Ticket {{ ticket }}\n" + RULES_TEXT + "\n{{ question }}")),
    "history window": ("history-truncated", folder(ask="{% for m in history[-10:] %}{{ m }}{% endfor %} {{ question }}")),
    "mixed line ends": ("whitespace", folder(PROSE.replace("\n", "\r\n", 4))),
    "byte order mark": ("whitespace", folder("\ufeff" + PROSE)),
    "decomposed accents": ("whitespace", folder(PROSE + "\nCafe\u0301 opening hours are on the door.\n")),
    "too short": ("short-prefix", folder("You are a helpful bot.\n")),
    "said twice": ("duplicate-text", folder(PROSE + "\n\n" + RULES_TEXT + "\n\nMore.\n\n" + RULES_TEXT + "\n")),
    "german date": ("volatile-time", folder("Heutiges Datum: 24. November 2026\n" + PROSE)),
    "french date": ("volatile-time", folder("Date du jour : 24 novembre 2026\n" + PROSE)),
    "japanese date": ("volatile-time", folder("現在の日時: 2026年11月24日 14時32分\n" + PROSE)),
    "log line": ("volatile-time", folder("[2026-11-24 14:32:11.123] Session started\n" + PROSE)),
    "as of, you": ("volatile-time", folder("As of 24 Nov 2026, you know this.\n" + PROSE)),
    "retrieved at": ("volatile-time", folder("Context retrieved: 2026-11-24 09:00 UTC\n" + PROSE)),
    "live weather": ("volatile-time", folder("The current weather in Vienna is 7 degrees.\n" + PROSE)),
    "bare uuid": ("volatile-id", folder("550e8400-e29b-41d4-a716-446655440000\n" + PROSE)),
    "traceparent": ("volatile-id", folder("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n" + PROSE)),
    "build": ("volatile-id", folder("Build: main@4f2c9ab1d0e\n" + PROSE)),
    "attempt": ("volatile-counter", folder("Attempt: 3\n" + PROSE)),
    "turn of": ("volatile-counter", folder("Turn 7 of 20\n" + PROSE)),
    "tokens left": ("volatile-counter", folder("You have 18234 tokens remaining.\n" + PROSE)),
    "random comment": ("volatile-random", folder("<!-- cb=0.8372615243 -->\n" + PROSE)),
    "user's balance": ("user-in-prefix", folder("The customer's current balance is 132.50 EUR.\n" + PROSE)),
    "user's place": ("user-in-prefix", folder("The user is located in Vienna, Austria.\n" + PROSE)),
    "client ip": ("user-in-prefix", folder("Client IP: 203.0.113.77\n" + PROSE)),
    "clock in a tool": ("volatile-time", folder(tools_DOT_json=json.dumps([{"type": "function", "function": {"name": "f", "description": "Now 2026-11-24T10:00:00Z"}}]))),
    "examples said to be shuffled": ("example-order", folder(few_shot_examples_DOT_txt="Examples (in random order):\n\nQ: a\nA: b\n")),
    "export stamp": ("volatile-time", folder(context__a_DOT_md="# Prices\nGenerated: 2026-11-24 10:12:07\n" + OTHER)),
    "export id": ("volatile-id", folder(context__a_DOT_md="# Prices\nExport id: 8f2c-1177\n" + OTHER)),
    "white space at line ends": ("whitespace", folder(PROSE.replace("\n", "   \t\n", 3))),
    "n8n": ("volatile-time", folder("Now: {{ $now.toISO() }}\n" + PROSE)),
    "dify": ("volatile-time", folder("Now: {{#sys.datetime#}}\n" + PROSE)),
    "go": ("volatile-time", folder("Today: {{ .Date }}\n" + PROSE)),
    "mustache section": ("user-in-prefix", folder("{{#user}}Hi {{user.name}}{{/user}}\n" + PROSE)),
    "dollar": ("volatile-time", folder("Today is $date.\n" + PROSE)),
    "retrieved context": ("dynamic-first", folder("Answer from {context}\n" + PROSE)),
    "history variable": ("dynamic-first", folder("{{ chat_history }}\n" + PROSE)),
    "open files": ("dynamic-first", folder("Open: {{ open_tabs }}\n" + PROSE)),
    "week": ("volatile-time", folder("It is calendar week 38.\n" + PROSE)),
    "cost so far": ("volatile-counter", folder("Current cost: $0.0381.\n" + PROSE)),
    "unfilled variable": ("unfilled-variable", folder("You work for {{ shop }}.\n" + PROSE)),
}  # fmt: skip

CLEAN_FOLDERS: dict[str, Files] = {
    "plain": folder(),
    "document with dates": folder(context__policy_DOT_md="# Policy\nEffective date: 2026-01-01. Last updated: 3 March 2026.\n" + OTHER),
    "opening times": folder(PROSE + "\nOpen Monday to Friday, 09:00-17:30. Check-in time: 14:00.\n"),
    "examples with ids and names": folder(few_shot_examples_DOT_txt="Customer: My order ID: 48213-A, request id 99812, user: Alice Smith\nAssistant: Thanks, Alice.\n"),
    "product version": folder(PROSE + "\nThis is version 4.2.1, released 2025-11-03.\n"),
    "tenant with a value": folder("You work for {{ tenant }}.\n" + PROSE, variables_DOT_yaml="tenant: Acme\n"),
    "instructions about users": folder(PROSE + "\nThe user is always right. The customer is asking about gardens. Ask the user for their name.\n"),
    "instructions about dates": folder(PROSE + "\nIf the user asks for the current date, call the tool get_time.\n"),
    "instructions about ids": folder(PROSE + "\nAsk for the session ID if the customer mentions an error. A request takes 3 days.\n"),
    "code in a document": folder(context__api_DOT_md="```\nprint(f'{user_id} {date}')\n```\n" + OTHER),
    "json format": folder(PROSE + '\nAnswer as {"answer": "...", "confidence": 0.9}.\n'),
    "instructions in the template, in front": folder(ask=RULES_TEXT + "\n\nQuestion: {{ question }}"),
    "short words behind the question": folder(ask="Question: {{ question }}\nAnswer in one sentence."),
    "tools": folder(tools_DOT_json=json.dumps([{"type": "function", "function": {"name": "get_time", "description": "The current time", "parameters": {"type": "object", "properties": {"timezone": {"type": "string"}}}}}])),
    "crlf everywhere": folder(PROSE.replace("\n", "\r\n")),
    "changelog": folder(PROSE + "\n2024-01-03 added refunds\n2024-05-09 10:12 added repairs\n"),
    "checksum": folder(PROSE + "\nChecksum of the firmware: 4f2c9ab1d0e88aa1b0c2d3e4f5061728\n"),
    "ids in tools": folder(tools_DOT_json=json.dumps([{"type": "function", "function": {"name": "f", "description": "Plans: 550e8400-e29b-41d4-a716-446655440000 is basic"}}])),
    "code in the system prompt": folder(PROSE + "\n```python\nprint(f'{user_id} at {now}')\nsession_id = '9f8a7c6d5e'\n```\n"),
    "an id as an example": folder(PROSE + "\nThe user ID is a number of six digits, e.g. user id: 123456.\n"),
    "updated on a day": folder("Last updated: 2026-03-01. Prices as of 1 March 2026.\n" + PROSE),
    "a firm": folder("You are an assistant. Customer: Lindgren Tools GmbH.\n" + PROSE),
    "a dialogue as an example": folder("Example:\nUser: Hello, request id 99812, 2026-03-01 10:12:07\nAssistant: Hi.\n\n" + PROSE),
    "secrets of a workflow": folder(PROSE + "\nWrite `${{ secrets.TOKEN }}`, never the value.\n"),
    "a recipe": folder(PROSE + "\nSalt: 5g, seed: sunflower-mix-2, signature: handwritten12. Random: pick any.\n"),
    "a revision": folder(PROSE + "\nExample commit 4f2c9ab1d0e. Revision: 2024a7bc9.\n"),
    "an object as an example": folder('Return {"date": "2026-03-01T10:00:00Z", "id": "req_1"} always.\n' + PROSE),
    "samples in a schema": folder(tools_DOT_json=json.dumps([{"type": "function", "function": {"name": "f", "description": "A time, e.g. 2026-03-01T10:00:00Z", "parameters": {"type": "object", "properties": {"at": {"type": "string", "examples": ["2026-03-01T10:12:07Z"], "default": "2026-03-01T00:00:00Z"}}}}}])),
    "contact details": folder(PROSE + "\nSupport: help@example.org, +44 20 7946 0000.\n"),
}  # fmt: skip

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"{name} of the garden, with what it needs: {RULES_TEXT}",
            "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
        },
    }
    for name in ("read_sensor", "open_valve", "list_plans", "book_visit")
]
DOCS = [f"Document {n}: " + " ".join(PROSE.split()[n * 25 : n * 25 + 60]) for n in range(12)]
EXAMPLES = [f"Q: case {n}? " + " ".join(PROSE.split()[n * 20 : n * 20 + 30]) for n in range(8)]

Body = dict[str, Any]


def log(make: Callable[[int, random.Random], Body], count: int = 60) -> list[Body]:
    rng = random.Random(5)
    return [make(n, rng) for n in range(count)]


def chat(system: str, user: str, **more: Any) -> Body:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return {"model": "m", "messages": messages, **more}


def q(n: int) -> str:
    return f"Question {n}: why is valve {n * 7 % 13} of my garden number {n} dry?"


def _shuffled(items: list[Any], rng: random.Random) -> list[Any]:
    made = list(items)
    rng.shuffle(made)
    return made


def _keys(tool: Body, rng: random.Random) -> Body:
    function = dict(_shuffled(list(tool["function"].items()), rng))
    return {"type": tool["type"], "function": function}


def conversation(turns: int) -> list[dict[str, Any]]:
    found = []
    for t in range(turns):
        found.append({"role": "user", "content": q(t)})
        found.append({"role": "assistant", "content": f"Answer {t}: " + RULES_TEXT[t * 5 :][:300]})
    return [*found, {"role": "user", "content": q(turns)}]


def _session(n: int, cut: int | None, rewrite: bool = False) -> Body:
    turns = conversation(n + 1)
    if cut:
        turns = turns[-cut:]
    if rewrite:
        turns = [
            {**t, "content": t["content"][:100] + f" ... [{n} turns later]"} if i in (1, 2) and n > 1 else t
            for i, t in enumerate(turns)
        ]  # fmt: skip
    return {"messages": [{"role": "system", "content": PROSE}, *turns]}


def _calls(n: int) -> Body:
    """Session n // 3; its call is replayed with other spaces than it was first sent with."""
    session, turn = divmod(n, 3)
    arguments = {"valve": session, "minutes": 20, "note": RULES_TEXT[session : session + 200]}
    text = json.dumps(arguments, indent=turn or None)
    call = {"id": "c1", "type": "function", "function": {"name": "open_valve", "arguments": text}}
    return {
        "messages": [
            {"role": "system", "content": PROSE},
            {"role": "user", "content": f"Water the roses, job {session}."},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "done " + RULES_TEXT, "tool_call_id": "c1"},
            *conversation(turn),
        ]
    }


def _turns(pairs: list[tuple[str, str]], ask: str) -> Body:
    turns = [
        m
        for a, b in pairs
        for m in ({"role": "user", "content": a}, {"role": "assistant", "content": b})
    ]
    messages = [
        {"role": "system", "content": "Classify."},
        *turns,
        {"role": "user", "content": ask},
    ]
    return {"messages": messages}


PAIRS = [
    (f"Case {n}: " + " ".join(PROSE.split()[n * 20 : n * 20 + 30]), f"label {n % 3}")
    for n in range(8)
]


def _told(n: int, tell: Callable[[int, list[dict[str, Any]]], list[dict[str, Any]]]) -> Body:
    """Turn n % 10 of conversation n // 10, its earlier turns told by `tell`."""
    talk, turn = divmod(n, 10)
    turns = [{**m, "content": f"{m['content']} ({talk})"} for m in conversation(turn)]
    return {"messages": [{"role": "system", "content": PROSE}, *tell(turn, turns)]}


def _minutes_ago(turn: int, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    told = [
        {**m, "content": f"[{turn * 3 - i} min ago] {m['content']}"}
        for i, m in enumerate(turns[:-1])
    ]
    return [*told, turns[-1]]


def _rolling_summary(role: str) -> Callable[[int, list[dict[str, Any]]], list[dict[str, Any]]]:
    def tell(turn: int, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if turn < 3:
            return turns
        words = f"Summary of {turn} turns: " + " ".join(PROSE.split()[turn * 7 : turn * 7 + 60])
        return [{"role": role, "content": words}, *turns[-5:]]

    return tell


BROKEN_LOGS: dict[str, tuple[str, list[Body]]] = {
    "clock": ("volatile-time", log(lambda n, r: chat(f"Now: 2026-03-01T09:{n % 60:02}:11Z\n" + PROSE, q(n)))),
    "today": ("volatile-time", log(lambda n, r: chat(f"Current date: 2026-03-{n % 28 + 1:02}\n" + PROSE, q(n)))),
    "uuid": ("volatile-id", log(lambda n, r: chat(f"Session {uuid.UUID(int=r.getrandbits(128))}\n" + PROSE, q(n)))),
    "request id": ("volatile-id", log(lambda n, r: chat(f"request_id: r{r.randrange(10**9):09}\n" + PROSE, q(n)))),
    "counter": ("volatile-counter", log(lambda n, r: chat(f"Request number {n + 1000}.\n" + PROSE, q(n)))),
    "nonce": ("volatile-random", log(lambda n, r: chat(f"nonce: {r.getrandbits(60):x}\n" + PROSE, q(n)))),
    "user": ("user-in-prefix", log(lambda n, r: chat(f"User: {'Alice Bob Carol Dan Eve'.split()[n % 5]} {chr(65 + n % 26)}owler\n" + PROSE, q(n)))),
    "tool order": ("tool-order", log(lambda n, r: chat(PROSE, q(n), tools=_shuffled(TOOLS, r)))),
    "key order": ("key-order", log(lambda n, r: chat(PROSE, q(n), tools=[_keys(t, r) for t in TOOLS]))),
    "tools come and go": ("tools-changed", log(lambda n, r: chat(PROSE, q(n), tools=[t for t in TOOLS if r.random() < 0.6] or TOOLS))),
    "document order": ("document-order", log(lambda n, r: chat("Answer from these.\n\n" + "\n\n".join(_shuffled(DOCS, r)), q(n)))),
    "example order": ("example-order", log(lambda n, r: chat("Classify.\n\n" + "\n\n".join(_shuffled(EXAMPLES, r)), q(n)))),
    "question first": ("dynamic-first", log(lambda n, r: chat("Be brief.", q(n) + "\n\n" + PROSE.replace("\n\n", "\n")))),
    "salt per request": ("cache-key", log(lambda n, r: chat(PROSE, q(n), cache_salt=f"s{n}"))),
    "white space": ("whitespace", log(lambda n, r: chat(PROSE.replace("\n", "\n" + " " * (n % 4)), q(n)))),
    "line ends": ("whitespace", log(lambda n, r: chat(PROSE.replace("\n", "\r\n") if n % 2 else PROSE, q(n)))),
    "history cut": ("history-truncated", [_session(n, 9) for n in range(40)]),
    "history rewritten": ("history-rewritten", [_session(n, None, rewrite=True) for n in range(40)]),
    "every turn stamped anew": ("history-rewritten", log(lambda n, r: _told(n, _minutes_ago))),
    "rolling summary": ("history-rewritten", log(lambda n, r: _told(n, _rolling_summary("user")))),
    "rolling summary by the system": ("history-rewritten", log(lambda n, r: _told(n, _rolling_summary("system")))),
    "example turns shuffled": ("example-order", log(lambda n, r: _turns(_shuffled(PAIRS, r), q(n)))),
    "example turns sampled": ("example-order", log(lambda n, r: _turns(r.sample(PAIRS, 5), q(n)))),
    "short hexadecimal": ("volatile-random", log(lambda n, r: chat(f"[{r.getrandbits(48):012x}]\n" + PROSE, q(n)))),
    "said twice": ("duplicate-text", log(lambda n, r: chat(PROSE + "\n\n" + RULES_TEXT + "\n\nMore.\n\n" + RULES_TEXT, q(n)))),
    "calls replayed": ("replayed-bytes", log(lambda n, r: _calls(n))),
    "text that just varies": ("varying-text", log(lambda n, r: chat(f"You have answered {n} questions, {n * 7} of them well.\n" + PROSE, q(n)))),
    "epoch": ("varying-text", log(lambda n, r: chat(f"ts {1764000000 + 61 * n}\n" + PROSE, q(n)))),
    "documents in tags": ("document-order", log(lambda n, r: chat("Answer.\n<docs>" + "".join(f"<doc>{d}</doc>" for d in _shuffled(DOCS, r)) + "</docs>", q(n)))),
    "clock in a tool": ("volatile-time", log(lambda n, r: chat(PROSE, q(n), tools=[{"type": "function", "function": {"name": "f", "description": f"as of 2026-11-24T08:{n % 60:02}:37 " + RULES_TEXT}}]))),
    "two at once": ("volatile-time", log(lambda n, r: chat(f"Now: 2026-03-01T09:{n % 60:02}:11Z, session {uuid.UUID(int=r.getrandbits(128))}\n" + PROSE, q(n)))),
}  # fmt: skip

CLEAN_LOGS: dict[str, list[Body]] = {
    "static first": log(lambda n, r: chat(PROSE, q(n))),
    "date at the end": log(lambda n, r: chat(PROSE, q(n) + f" (asked at 2026-03-01T09:{n % 60:02}:11Z)")),
    "clock behind the rules": log(lambda n, r: chat(PROSE + f"\nAsked {n} times.", q(n))),
    "append only": [_session(n, None) for n in range(30)],
    "talks that grow": log(lambda n, r: _told(n, lambda turn, turns: turns)),
    "example turns": log(lambda n, r: _turns(PAIRS, q(n))),
    "short answers": log(lambda n, r: {"messages": [{"role": "system", "content": PROSE}, {"role": "user", "content": q(n // 3)}, *[{"role": w, "content": "yes"} for _ in range(n % 3) for w in ("assistant", "user")]]}),
    "fixed tools": log(lambda n, r: chat(PROSE, q(n), tools=TOOLS)),
    "tenant salts": log(lambda n, r: chat(PROSE, q(n), cache_salt=f"tenant-{n % 3}")),
    "tenants": log(lambda n, r: chat(f"You work for tenant {'Acme Bolt Coda'.split()[n % 3]}.\n" + PROSE, q(n)), 300),
    "documents in fixed order": log(lambda n, r: chat("Answer.\n\n" + "\n\n".join(DOCS), q(n))),
    "nothing shared": log(lambda n, r: chat(" ".join(_shuffled(PROSE.split(), r)), q(n))),
    "one request": log(lambda n, r: chat(PROSE, q(n)), 1),
}  # fmt: skip
