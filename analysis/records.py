"""The records of one phase, as far as they can be read; what cannot is counted, never guessed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from workloads.record import FORMAT, Record, parse_lines

RECORD_COLUMNS = ["server", *Record.__dataclass_fields__]
TIMES = ("planned_s", "sent_s", "first_token_s", "last_token_s")
COUNTS = ("prompt_tokens", "cached_tokens", "output_tokens", "status")
NUMBERS = [*TIMES, *COUNTS]
TEXTS = ("tenant", "prefix", "error", "answer")


@dataclass(frozen=True, slots=True)
class Records:
    """`frame`: RECORD_COLUMNS, one row a request."""

    frame: pd.DataFrame
    broken_lines: int
    schedule_hashes: set[str]
    """What the record files say they replayed."""
    foreign: list[str]
    """Files of another format, of which nothing was read, in words."""


def read(folder: Path, arm: str, repeat: int, server: str) -> Records:
    """All record files of the phase whose folder of records this is."""
    rows: list[dict[str, Any]] = []
    hashes: set[str] = set()
    broken, foreign = 0, []
    for path in sorted(folder.glob("requests-*.jsonl")):
        text = path.read_text(encoding="utf-8", errors="replace")
        if (other := _other_format(text)) is not None:
            foreign.append(f"{path.name} has format '{other}', this version reads '{FORMAT}'")
            continue
        header, found, bad = parse_lines(text)
        hashes |= {str(header["schedule_sha256"])} if header else set()
        whole = [row for row in found if _is_whole(row, arm, repeat)]
        rows += whole
        broken += bad + len(found) - len(whole)
    frame = pd.DataFrame(rows, columns=RECORD_COLUMNS)
    frame["server"] = server
    # None and absent become NaN: unknown stays unknown, and never turns into 0.
    frame[NUMBERS] = frame[NUMBERS].apply(pd.to_numeric, errors="coerce").astype("float64")
    return Records(frame, broken, hashes, foreign)


def _other_format(text: str) -> str | None:
    """The format that the first line names, where it is not ours."""
    try:
        first = json.loads(text.partition("\n")[0])
    except ValueError:
        return None
    named = first.get("format") if isinstance(first, dict) else None
    return None if named in (None, FORMAT) else str(named)


def _is_whole(row: dict[str, Any], arm: str, repeat: int) -> bool:
    """Whether a record has the shape that Record.to_line gives it, and is of this phase."""
    return (
        isinstance(row["id"], str)
        and (row.get("arm"), row.get("repeat")) == (arm, repeat)
        and isinstance(row.get("chunk_s"), list)
        and all(_is_number(row.get(name)) for name in NUMBERS)
        and all(isinstance(row.get(name), str | None) for name in TEXTS)
    )


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
