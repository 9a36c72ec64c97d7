"""The formats of traces that can be read, and which one a file has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.workloads.traces import chats as trace_chats
from aot.workloads.traces import hashed, lengths
from aot.workloads.traces import ragpulse as trace_ragpulse
from aot.workloads.traces.file import Rows
from aot.workloads.traces.request_log import WRAPPERS
from aot.workloads.traces.traced import Traced


@dataclass(frozen=True, slots=True)
class Format:
    """`block_tokens` None: prompts are no lists of blocks. `knows`: what can be made of it."""

    name: str
    knows: str
    read: Callable[[Rows], Iterator[Traced]]
    block_tokens: int | None = None


def _lines(parse: Callable[[int, dict[str, Any]], Traced]) -> Callable[[Rows], Iterator[Traced]]:
    return lambda rows: _parsed(rows, rows.json_lines(), parse)


def _table(
    parse: Callable[[int, dict[str, Any]], Traced], columns: tuple[str, ...]
) -> Callable[[Rows], Iterator[Traced]]:
    return lambda rows: _parsed(rows, rows.csv_rows(columns), parse)


def _parsed(
    rows: Rows,
    numbered_rows: Iterator[tuple[int, dict[str, Any]]],
    parse: Callable[[int, dict[str, Any]], Traced],
) -> Iterator[Traced]:
    for number, row in numbered_rows:
        try:
            yield parse(number, row)
        except KeyError as error:
            rows.bad(number, f"field {error} is missing")
        except (TypeError, ValueError) as error:
            rows.bad(number, str(error))


_ALL = (
    Format("mooncake", "blocks", _lines(hashed.mooncake), hashed.MOONCAKE_BLOCK_TOKENS),
    Format("bailian", "blocks", _lines(hashed.bailian), hashed.BAILIAN_BLOCK_TOKENS),
    Format("coding", "blocks", _lines(hashed.coding), hashed.CODING_BLOCK_TOKENS),
    Format("ragpulse", "parts", trace_ragpulse.read),
    Format("azure", "lengths", _table(lengths.azure, lengths.AZURE_COLUMNS)),
    Format("burstgpt", "lengths", _table(lengths.burstgpt, lengths.BURSTGPT_COLUMNS)),
    Format("sharegpt", "messages", trace_chats.sharegpt),
    Format("openai", "messages", trace_chats.openai),
)
FORMATS = {f.name: f for f in _ALL}
"""By the name that the command line takes."""


def read(rows: Rows, format_: Format) -> Iterator[Traced]:
    """The requests of a trace, one after the other; nothing is held. Raises UsageError naming
    file, line and field, and for a trace without a request."""
    some = False
    for request in format_.read(rows):
        some = True
        yield request
    if not some:
        bad = (
            f" ({rows.skipped} bad lines, the first: {rows.first_skipped})" if rows.skipped else ""
        )
        raise UsageError(f"{rows.path}: no request in it{bad}")


def detect(path: Path) -> Format:
    """The format of a file by its first line. UsageError where it is none that is known."""
    if path.is_dir() and not (path / trace_ragpulse.TRACE).exists():
        raise UsageError(
            f"{path}: is a folder without a {trace_ragpulse.TRACE} (RAGPulse); name a file"
        )
    if path.is_dir() or path.name.endswith((".tgz", ".tar.gz", ".tar")):
        return FORMATS["ragpulse"]
    with Rows(path).opened() as handle:
        start = handle.readline(1 << 20)
    if not start.strip():
        raise UsageError(f"{path}: its first line is empty: no trace")
    name = _by_columns(start) or _by_keys(start)
    if name is None:
        raise UsageError(
            f"{path}: no known trace format by its first line; say which: --format "
            f"{'|'.join(FORMATS)}"
        )
    return FORMATS[name]


def _by_columns(start: str) -> str | None:
    columns = [c.strip() for c in start.split(",")]
    if all(c in columns for c in lengths.AZURE_COLUMNS):
        return "azure"
    return "burstgpt" if all(c in columns for c in lengths.BURSTGPT_COLUMNS) else None


def _by_keys(start: str) -> str | None:
    if start.lstrip("\ufeff ").startswith("["):
        return "sharegpt"
    try:
        row = json.loads(start)
    except ValueError:
        return None
    if not isinstance(row, dict):
        return None
    if isinstance(row.get("hash_ids"), dict):
        return "ragpulse"
    if "hash_runs" in row:
        return "coding"
    if "hash_ids" in row:
        return "bailian" if "parent_chat_id" in row else "mooncake"
    return "openai" if {"messages", "prompt", *WRAPPERS} & set(row) else None
