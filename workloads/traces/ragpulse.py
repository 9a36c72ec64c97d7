"""RAGPulse: a week of a real service whose prompts are made of parts, each with its own id and its
length in a side file (flashserve/RAGPulse)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aot.workloads.logs.file import Rows
from aot.workloads.logs.traced import Traced, count, seconds

TRACE = "0_trace.jsonl"
SIDE_FILES = {
    "1_sys_prompt.jsonl": "sys_prompt_id",
    "2_passages.jsonl": "passage_id",
    "3_history.jsonl": "history_id",
    "4_user_input.jsonl": "user_input_id",
    "5_web_search.jsonl": "web_search_id",
}
PARTS = ("sys_prompt", "passages_ids", "history", "web_search", "user_input")
"""In the order of the prompt."""


def read(rows: Rows) -> Iterator[Traced]:
    """The requests, in file order. `rows` is of the trace file, its folder, or an archive of it."""
    tokens: dict[int, int] = {}
    for file, field in SIDE_FILES.items():
        for number, row in rows.json_lines(file):
            try:
                tokens[row[field]] = count(row, "token_length")
            except (KeyError, ValueError) as error:
                rows.bad(number, f"({file}) {_words(error)}")
    for number, row in rows.json_lines(TRACE):
        try:
            yield _request(number, row, tokens)
        except (KeyError, TypeError, ValueError) as error:
            rows.bad(number, _words(error))


def _request(number: int, row: dict[str, Any], tokens: dict[int, int]) -> Traced:
    ids = row["hash_ids"]
    parts = []
    for kind in PARTS:
        for name in ids[kind]:
            if name not in tokens:
                raise ValueError(f"field 'hash_ids.{kind}' names {name}, which no side file has")
            parts.append((kind, name, tokens[name]))
    return Traced(
        number,
        at_s=seconds(row, "timestamp"),
        # What the parts have: the file's own input_length counts the seams differently.
        input_tokens=sum(length for _, _, length in parts),
        output_tokens=count(row, "output_length"),
        session=str(row["session_id"]),
        parts=parts,
    )


def _words(error: Exception) -> str:
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)
