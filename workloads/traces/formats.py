"""The formats of traces that can be read, and which one a file has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.workloads.logs import packed
from aot.workloads.logs.bodies import WRAPPERS
from aot.workloads.logs.file import Rows
from aot.workloads.logs.traced import Traced, count
from aot.workloads.traces import chats as trace_chats
from aot.workloads.traces import hashed, lengths, weka
from aot.workloads.traces import ragpulse as trace_ragpulse


@dataclass(frozen=True, slots=True)
class Format:
    """`block_tokens` None: prompts are no lists of blocks. `knows`: what can be made of it."""

    name: str
    knows: str
    read: Callable[[Rows], Iterator[Traced]]
    block_tokens: int | None = None
    full_only: bool = False
    """Blocks are whole, as an engine keeps them; else the last one of a prompt may be a part."""


def _lines(parse: Callable[[int, dict[str, Any]], Traced]) -> Callable[[Rows], Iterator[Traced]]:
    return lambda rows: _parsed(rows, rows.objects(), parse)


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
    Format("blocks", "blocks", _lines(hashed.captured), full_only=True),
    Format("weka", "blocks", weka.sessions),
    Format("aiperf", "messages", trace_chats.aiperf),
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


def detect(path: Path, block_tokens: int | None = None) -> Format:
    """The format of a file, a folder or an archive, by its first row, with the size of its blocks
    (`sized`). UsageError where it is none that is known."""
    if path.is_dir() and (path / trace_ragpulse.TRACE).exists():
        return FORMATS["ragpulse"]
    if path.name.endswith((".tgz", ".tar.gz", ".tar")):
        return FORMATS["ragpulse"]
    name = _of_table(path) or _of_row(path)
    if name is None:
        raise UsageError(
            f"{path}: no known trace format by its first line; say which: --format "
            f"{'|'.join(FORMATS)}"
        )
    return sized(FORMATS[name], path, block_tokens)


def _of_table(path: Path) -> str | None:
    """By the columns of a CSV file."""
    if path.is_dir() or packed.is_zip(path) or packed.is_parquet(path, None):
        return None
    with Rows(path).opened() as handle:
        start = handle.readline(1 << 20)
    if not start.strip():
        raise UsageError(f"{path}: its first line is empty: no trace")
    return _by_columns(start)


def _of_row(path: Path) -> str | None:
    row = next((row for _, row in Rows(path, skip_bad=True).objects()), None)
    return None if row is None else _by_keys(row)


def _by_columns(start: str) -> str | None:
    columns = [c.strip() for c in start.split(",")]
    if all(c in columns for c in lengths.AZURE_COLUMNS):
        return "azure"
    return "burstgpt" if all(c in columns for c in lengths.BURSTGPT_COLUMNS) else None


def _by_keys(row: Mapping[str, Any]) -> str | None:
    keys = row.keys()
    if isinstance(row.get("hash_ids"), dict):
        return "ragpulse"
    if "hash_runs" in row:
        return "coding"
    if "requests" in row and {"block_size", "hash_id_scope"} & keys:
        return "weka"
    if row.get("format") == hashed.CAPTURED:
        return "blocks"
    if "hash_ids" in row:
        return "bailian" if "parent_chat_id" in row else "mooncake"
    if "conversations" in row:
        return "sharegpt"
    if "messages" in row and {"output_length", "delay"} & keys:
        return "aiperf"
    wanted = {"messages", "prompt", "attributes", "resourceSpans", *WRAPPERS}
    return "openai" if wanted & keys else None


LOOKED_AT = 1_000
"""Rows whose lengths tell the size of a block."""
SIZES = (16, 32, 64, 128, 256, 512, 1024, 2048)


def sized(format_: Format, path: Path, block_tokens: int | None = None) -> Format:
    """The format with the size of this file's blocks: what the file says, what its lengths allow,
    or what is given by hand. UsageError where the lengths of prompts contradict it."""
    if format_.knows != "blocks":
        return format_
    if format_.name in ("weka", "blocks"):
        return _said(format_, path)
    if format_.name == "coding":
        return format_
    lengths_of = _lengths(format_, path)
    usual = format_.block_tokens or 1
    for size in (block_tokens, usual) if block_tokens else (usual, *SIZES):
        if size and all(-(-tokens // size) == blocks for tokens, blocks in lengths_of):
            return replace(format_, block_tokens=size)
    tokens, blocks = next((t, b) for t, b in lengths_of if -(-t // (block_tokens or usual)) != b)
    raise UsageError(
        f"{path}: a prompt of {tokens} tokens has {blocks} block ids, which are no blocks of "
        f"{block_tokens or usual} tokens, and no other size fits all prompts; say how large a "
        "block is: --block-size N"
    )


def _lengths(format_: Format, path: Path) -> list[tuple[int, int]]:
    """Tokens and blocks of the first prompts."""
    requests = islice(format_.read(Rows(path, skip_bad=True)), LOOKED_AT)
    return [(r.input_tokens or 0, len(r.blocks)) for r in requests]


def _said(format_: Format, path: Path) -> Format:
    for number, row in Rows(path).objects():
        try:
            return replace(format_, block_tokens=count(row, "block_size", 1))
        except (KeyError, ValueError) as error:
            raise UsageError(f"{path}:{number}: field 'block_size': {error}") from None
    return format_
