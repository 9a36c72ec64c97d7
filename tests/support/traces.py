"""Traces of every format, in small samples of our own making."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MOONCAKE = {"timestamp": 1500, "input_length": 700, "output_length": 5, "hash_ids": [3, 9]}
BAILIAN = {
    "chat_id": 7, "parent_chat_id": -1, "timestamp": 2.5, "input_length": 20, "output_length": 3,
    "type": "text", "turn": 1, "hash_ids": [1, 2],
}  # fmt: skip
CODING = {
    "session_id": "s1", "t": 3.0, "input_length": 150, "output_length": 9,
    "hash_runs": [[1, 2], [8, 1]],
}  # fmt: skip
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
BURSTGPT = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,abc,1.2,ChatGPT,472,18,490,Conversation log\n"
)
SHAREGPT = [
    {"id": "x", "conversations": [
        {"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes?"},
        {"from": "human", "value": "Why [is] it \"so\"?"},
    ]},
]  # fmt: skip
OPENAI = {"timestamp": 4, "body": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}}


def lines(*rows: Any) -> str:
    return "".join(json.dumps(r) + "\n" for r in rows)


SAMPLES = {
    "mooncake": lines(MOONCAKE, MOONCAKE),
    "bailian": lines(BAILIAN, BAILIAN | {"chat_id": 8, "parent_chat_id": 7}),
    "coding": lines(CODING),
    "azure": AZURE,
    "burstgpt": BURSTGPT,
    "sharegpt": json.dumps(SHAREGPT),
    "openai": lines(OPENAI),
}


def ragpulse(folder: Path) -> Path:
    data = folder / "data"
    data.mkdir(parents=True)
    row = {
        "timestamp": "82", "input_length": 9, "output_length": 2, "session_id": "s",
        "hash_ids": {
            "sys_prompt": [1], "passages_ids": [2, 3], "history": [4], "web_search": [],
            "user_input": [5],
        },
    }  # fmt: skip
    (data / "0_trace.jsonl").write_text(lines(row))
    for file, field, ids in (
        ("1_sys_prompt", "sys_prompt_id", [1]), ("2_passages", "passage_id", [2, 3]),
        ("3_history", "history_id", [4]), ("4_user_input", "user_input_id", [5]),
        ("5_web_search", "web_search_id", []),
    ):  # fmt: skip
        rows = [{field: i, "token_length": 10 * i} for i in ids]
        (data / f"{file}.jsonl").write_text(lines(*rows) + "\n")
    return data
