"""Read what one phase (one arm of one repeat on one server) left behind, as far as it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from serving.counters import CacheCounters, CacheFacts, Metrics, parse
from serving.engine import Engine
from workloads.record import Record, parse_lines

RECORD_COLUMNS = ["server", *Record.__dataclass_fields__]
NUMBERS = [
    "planned_s",
    "sent_s",
    "first_token_s",
    "last_token_s",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "status",
]

MIN_LOAD_WALL_S = 2.0
"""Below this, the start of the load generator would be all that its CPU share shows."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One arm of one repeat. `counters` is the change over the replay, None where not scraped."""

    name: str
    arm: str
    repeat: int
    complete: bool
    records: pd.DataFrame
    broken_lines: int
    facts: CacheFacts | None
    counters: CacheCounters | None
    proof: dict[str, Any] | None
    warmed: list[dict[str, Any]] | None
    schedule_hashes: set[str]
    """What the record files say they replayed."""
    command: str | None
    """How the engine was started; None where it was not started by us."""
    generator_cpu: float | None
    """CPU seconds per wall second of the busiest load process; 1.0 is one core."""

    lags_s: list[float]
    """How late the load generator's event loop was, sampled every 50 ms."""
    tokens: dict[str, list[int]] | None
    """Of prompts with the server's own answers in them; None where there are none."""

    @property
    def canary(self) -> list[int] | None:
        """Token ids of the prompt that proving left in the cache; None where unknown."""
        return (self.proof or {}).get("canary_token_ids")

    @property
    def salts(self) -> str | None:
        """What shared a cache salt ("phase", "request"); None where none were sent."""
        return (self.proof or {}).get("salts")


def read_phase(folder: Path, arm: str, repeat: int, server: str, engine: Engine) -> Phase | None:
    """The phase in `folder`; None when there is no such folder."""
    if not folder.is_dir():
        return None
    records, broken, hashes = _records(folder / "records", server)
    before, after = _metrics(folder / "metrics-before.txt"), _metrics(folder / "metrics-after.txt")
    counters = None
    if before and after:
        counters = engine.counters(after) - engine.counters(before)
    facts = read_json(folder / "facts.json")
    return Phase(
        name=folder.name,
        arm=arm,
        repeat=repeat,
        complete=(folder / "done.json").exists(),
        records=records,
        broken_lines=broken,
        facts=CacheFacts(**facts) if facts else None,
        counters=counters,
        proof=read_json(folder / "proof.json"),
        warmed=read_json(folder / "warm.json"),
        schedule_hashes=hashes,
        command=(read_json(folder / "command.json") or {}).get("command"),
        generator_cpu=_generator_cpu(folder / "records"),
        lags_s=_lags(folder / "records"),
        tokens=read_tokens(folder / "tokens.parquet"),
    )


def read_tokens(path: Path) -> dict[str, list[int]] | None:
    """Token ids by prompt; None where there is no such file that can be read."""
    try:
        table = pq.read_table(path).to_pydict()
    except (OSError, pa.ArrowInvalid):
        return None
    return dict(zip(table["id"], table["token_ids"], strict=True))


def _lags(folder: Path) -> list[float]:
    found = (read_json(path) for path in folder.glob("load-*.json"))
    return [lag for load in found if load for lag in load.get("lags_s", ())]


def read_json(path: Path) -> Any:
    """The value in a JSON file; None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _records(folder: Path, server: str) -> tuple[pd.DataFrame, int, set[str]]:
    rows: list[dict[str, Any]] = []
    hashes: set[str] = set()
    broken = 0
    for path in sorted(folder.glob("requests-*.jsonl")):
        header, found, bad = parse_lines(path.read_text(encoding="utf-8", errors="replace"))
        hashes |= {header["schedule_sha256"]} if header else set()
        rows += found
        broken += bad
    frame = pd.DataFrame(rows, columns=RECORD_COLUMNS)
    frame["server"] = server
    # None and absent become NaN: unknown stays unknown, and never turns into 0.
    frame[NUMBERS] = frame[NUMBERS].apply(pd.to_numeric, errors="coerce").astype("float64")
    return frame, broken, hashes


def _generator_cpu(folder: Path) -> float | None:
    shares = [
        load["cpu_s"] / load["wall_s"]
        for path in folder.glob("load-*.json")
        if (load := read_json(path)) and load["wall_s"] >= MIN_LOAD_WALL_S
    ]
    return max(shares) if shares else None


def _metrics(path: Path) -> Metrics | None:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
