"""Read a run directory: whatever is there, and say plainly what is missing.

runs/NAME-TIMESTAMP/
  manifest.json            resolved configs, versions, hardware, commit, schedule hash
  schedule.jsonl           the traffic, the same for every arm
  tokens.parquet           token ids of every planned prompt (absent without a tokenizer)
  phases/r1-jit/           one arm of one repeat
    records/               requests-N.jsonl, load-N.json: written by the load side
    metrics-before.txt, metrics-after.txt    the engine's /metrics around the replay
    proof.json warm.json server.log load.log
    done.json              written last: without it the phase was interrupted
  records.parquet summary.json report.html report.md figures/     derived from the above
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from configs.errors import UsageError
from configs.schema import ARMS
from serving.counters import CacheCounters, CacheFacts, Metrics, parse
from serving.engines import ENGINES
from workloads import schedule as schedule_file
from workloads.record import Record, parse_lines
from workloads.request import Schedule

RECORD_COLUMNS = list(Record.__dataclass_fields__)
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


@dataclass(frozen=True, slots=True)
class Phase:
    """One arm of one repeat. `counters` is the change over the replay, None where not scraped."""

    arm: str
    repeat: int
    complete: bool
    records: pd.DataFrame
    broken_lines: int
    facts: CacheFacts | None
    counters: CacheCounters | None
    proof: dict[str, Any] | None
    warmed: list[dict[str, Any]] | None
    generator_cpu: float | None
    """CPU seconds per wall second of the busiest load process; 1.0 is one core."""

    @property
    def name(self) -> str:
        return phase_name(self.arm, self.repeat)


@dataclass(frozen=True, slots=True)
class Run:
    """Everything a report is made from."""

    folder: Path
    manifest: dict[str, Any]
    schedule: Schedule
    schedule_sha256: str
    phases: list[Phase]
    tokens: dict[str, list[int]] | None
    missing: list[str]
    """What should be there and is not, in words."""

    @property
    def records(self) -> pd.DataFrame:
        """All records of all phases, one row a request."""
        frames = [p.records for p in self.phases if len(p.records)]
        if not frames:
            return pd.DataFrame(columns=RECORD_COLUMNS)
        return pd.concat(frames, ignore_index=True)

    def of_arm(self, arm: str) -> list[Phase]:
        return [p for p in self.phases if p.arm == arm]

    @property
    def arms(self) -> list[str]:
        """Arms with at least one record, in the order of the vocabulary."""
        seen = {p.arm for p in self.phases if len(p.records)}
        return [a for a in ARMS if a in seen]


def phase_name(arm: str, repeat: int) -> str:
    """The folder name of a phase."""
    return f"r{repeat}-{arm}"


def load(folder: Path) -> Run:
    """The run in `folder`. Raises UsageError when it is no run directory at all."""
    manifest = _json(folder / "manifest.json")
    if manifest is None:
        raise UsageError(f"{folder}: no run directory (it has no readable manifest.json)")
    schedule_path = folder / "schedule.jsonl"
    schedule = schedule_file.read(schedule_path)
    missing: list[str] = []
    phases = []
    for repeat, arm in _planned(manifest):
        found = _phase(folder / "phases" / phase_name(arm, repeat), arm, repeat, manifest["engine"])
        if found is None:
            missing.append(f"arm {arm}, repeat {repeat}: not measured")
            continue
        if not found.complete:
            planned = len(schedule.requests)
            missing.append(
                f"arm {arm}, repeat {repeat}: interrupted, {len(found.records)} of {planned} "
                "requests were recorded"
            )
        if found.broken_lines:
            missing.append(f"arm {arm}, repeat {repeat}: {found.broken_lines} unreadable record(s)")
        phases.append(found)
    tokens = _tokens(folder / "tokens.parquet")
    if tokens is None:
        missing.append("token ids of the planned prompts (no tokenizer): no expected hit ratio")
    digest = schedule_file.digest(schedule_path)
    return Run(folder, manifest, schedule, digest, phases, tokens, missing)


def _planned(manifest: dict[str, Any]) -> list[tuple[int, str]]:
    return [(int(p["repeat"]), str(p["arm"])) for p in manifest["phases"]]


def _phase(folder: Path, arm: str, repeat: int, engine: str | None) -> Phase | None:
    if not folder.is_dir():
        return None
    records, broken = _records(folder / "records")
    before, after = _metrics(folder / "metrics-before.txt"), _metrics(folder / "metrics-after.txt")
    reader = ENGINES.get(engine or "")
    counters = facts = None
    if reader and before and after:
        counters = reader.counters(after) - reader.counters(before)
    if reader and before:
        facts = reader.cache_facts(before)
    return Phase(
        arm=arm,
        repeat=repeat,
        complete=(folder / "done.json").exists(),
        records=records,
        broken_lines=broken,
        facts=facts,
        counters=counters,
        proof=_json(folder / "proof.json"),
        warmed=_json(folder / "warm.json"),
        generator_cpu=_generator_cpu(folder / "records"),
    )


def _records(folder: Path) -> tuple[pd.DataFrame, int]:
    rows: list[dict[str, Any]] = []
    broken = 0
    for path in sorted(folder.glob("requests-*.jsonl")):
        _, found, bad = parse_lines(path.read_text(encoding="utf-8", errors="replace"))
        rows += found
        broken += bad
    frame = pd.DataFrame(rows, columns=RECORD_COLUMNS)
    # None and absent become NaN: unknown stays unknown, and never turns into 0.
    frame[NUMBERS] = frame[NUMBERS].apply(pd.to_numeric, errors="coerce").astype("float64")
    return frame, broken


def _generator_cpu(folder: Path) -> float | None:
    shares = [
        load["cpu_s"] / load["wall_s"]
        for path in folder.glob("load-*.json")
        if (load := _json(path)) and load.get("wall_s")
    ]
    return max(shares) if shares else None


def _metrics(path: Path) -> Metrics | None:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _tokens(path: Path) -> dict[str, list[int]] | None:
    if not path.exists():
        return None
    table = pq.read_table(path).to_pydict()
    return dict(zip(table["id"], table["token_ids"], strict=True))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
