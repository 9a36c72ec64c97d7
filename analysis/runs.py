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
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
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

MIN_LOAD_WALL_S = 2.0
"""Below this, the start of the load generator would be all that its CPU share shows."""


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
    schedule_hashes: set[str]
    """What the record files say they replayed."""
    command: str | None
    """How the engine was started; None where it was not started by us."""
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
    schedule: Schedule | None
    schedule_sha256: str | None
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
    """The run in `folder`, as far as it is there. UsageError when it is no run directory."""
    missing: list[str] = []
    manifest = _json(folder / "manifest.json")
    if manifest is None and not (folder / "phases").is_dir():
        raise UsageError(f"{folder}: no run directory (no readable manifest.json, no phases/)")
    if manifest is None:
        manifest = _manifest_from_folders(folder)
        missing.append("manifest.json: which machine, versions and engine this was is unknown")
    schedule, digest = _schedule(folder / "schedule.jsonl", missing)
    phases = []
    for repeat, arm in [(int(p["repeat"]), str(p["arm"])) for p in manifest["phases"]]:
        found = _phase(folder / "phases" / phase_name(arm, repeat), arm, repeat, manifest["engine"])
        missing += _shortcomings(found, f"arm {arm}, repeat {repeat}", schedule)
        phases += [found] if found else []
    tokens = _tokens(folder / "tokens.parquet")
    if tokens is None:
        missing.append("token ids of the planned prompts (no tokenizer): no expected hit ratio")
    return Run(folder, manifest, schedule, digest, phases, tokens, missing)


def _shortcomings(phase: Phase | None, name: str, schedule: Schedule | None) -> list[str]:
    if phase is None:
        return [f"{name}: not measured"]
    found = []
    if not phase.complete:
        planned = len(schedule.requests) if schedule else "an unknown number of"
        count = len(phase.records)
        found.append(f"{name}: interrupted, {count} of {planned} requests were recorded")
    if phase.broken_lines:
        found.append(f"{name}: {phase.broken_lines} unreadable record(s)")
    return found


def _schedule(path: Path, missing: list[str]) -> tuple[Schedule | None, str | None]:
    try:
        return schedule_file.read(path), schedule_file.digest(path)
    except UsageError as error:
        missing.append(f"the schedule ({error}): what was planned is unknown")
        return None, None


def _manifest_from_folders(folder: Path) -> dict[str, Any]:
    """What the names of the phase folders tell, where the manifest is lost."""
    names = [p.name for p in sorted((folder / "phases").iterdir())]
    found = [m for name in names if (m := re.fullmatch(r"r(\d+)-(jit|auto|aot)", name))]
    return {
        "name": folder.name,
        "started_utc": "unknown time",
        "engine": None,
        "model": "unknown model",
        "versions": {},
        "machine": {"cpu": "unknown machine", "gpus": []},
        "command": "unknown",
        "phases": [{"repeat": int(m[1]), "arm": m[2]} for m in found],
    }


def _phase(folder: Path, arm: str, repeat: int, engine: str | None) -> Phase | None:
    if not folder.is_dir():
        return None
    records, broken, hashes = _records(folder / "records")
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
        schedule_hashes=hashes,
        command=(_json(folder / "command.json") or {}).get("command"),
        generator_cpu=_generator_cpu(folder / "records"),
    )


def _records(folder: Path) -> tuple[pd.DataFrame, int, set[str]]:
    rows: list[dict[str, Any]] = []
    hashes: set[str] = set()
    broken = 0
    for path in sorted(folder.glob("requests-*.jsonl")):
        header, found, bad = parse_lines(path.read_text(encoding="utf-8", errors="replace"))
        hashes |= {header["schedule_sha256"]} if header else set()
        rows += found
        broken += bad
    frame = pd.DataFrame(rows, columns=RECORD_COLUMNS)
    # None and absent become NaN: unknown stays unknown, and never turns into 0.
    frame[NUMBERS] = frame[NUMBERS].apply(pd.to_numeric, errors="coerce").astype("float64")
    return frame, broken, hashes


def _generator_cpu(folder: Path) -> float | None:
    shares = [
        load["cpu_s"] / load["wall_s"]
        for path in folder.glob("load-*.json")
        if (load := _json(path)) and load["wall_s"] >= MIN_LOAD_WALL_S
    ]
    return max(shares) if shares else None


def _metrics(path: Path) -> Metrics | None:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _tokens(path: Path) -> dict[str, list[int]] | None:
    try:
        table = pq.read_table(path).to_pydict()
    except (OSError, pa.ArrowInvalid):
        return None
    return dict(zip(table["id"], table["token_ids"], strict=True))


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
