"""Read what one phase (one arm of one repeat on one server) left behind, as far as it is there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import records
from analysis.records import Keep
from serving.counters import CacheCounters, CacheFacts, Metrics, parse
from serving.engine import Engine
from serving.histograms import Histogram, between

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
    gaps_s: np.ndarray
    """Between chunks with text, of all records: analysis.records."""
    broken_lines: int
    foreign: list[str]
    """Record files of another format."""
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
    stages: dict[str, Histogram]
    """What the server measured over the replay, by stage; without those it does not have."""
    gauges: pd.DataFrame
    """What the server said during the replay: at_s on the replay's clock, and Engine.gauges."""
    floor: pd.DataFrame | None
    """Records of workloads/floor.py; None where it was not measured."""
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


def read_phase(
    folder: Path, arm: str, repeat: int, server: str, engine: Engine, keep: Keep | None = None
) -> Phase | None:
    """The phase in `folder`; None when there is no such folder."""
    if not folder.is_dir():
        return None
    found = records.read(folder / "records", arm, repeat, server, keep)
    before, after = _metrics(folder / "metrics-before.txt"), _metrics(folder / "metrics-after.txt")
    counters = None
    if before and after:
        counters = engine.counters(after) - engine.counters(before)
    return Phase(
        name=folder.name,
        arm=arm,
        repeat=repeat,
        complete=(folder / "done.json").exists(),
        records=found.frame,
        gaps_s=found.gaps_s,
        broken_lines=found.broken_lines,
        foreign=found.foreign,
        facts=_facts(read_json(folder / "facts.json")),
        counters=counters,
        proof=_object(folder / "proof.json"),
        warmed=_warmed(read_json(folder / "warm.json")),
        schedule_hashes=found.schedule_hashes,
        command=(_object(folder / "command.json") or {}).get("command"),
        generator_cpu=_generator_cpu(folder / "records"),
        lags_s=_lags(folder / "records"),
        stages=between(before, after, engine.stages) if before and after else {},
        gauges=_gauges(folder / "server.jsonl", found.clock_zero_s),
        floor=_floor(folder / "floor" / "records", arm, repeat, server),
        tokens=read_tokens(folder / "tokens.parquet"),
    )


def _gauges(path: Path, clock_zero_s: float | None) -> pd.DataFrame:
    """Empty where nothing was scraped, or the two clocks cannot be joined."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:  # cut off while it was written
            continue
        if isinstance(row, dict) and isinstance(row.get("monotonic_s"), float):
            rows.append(row)
    if clock_zero_s is None or not rows:
        return pd.DataFrame({"at_s": []})
    frame = pd.DataFrame(rows)
    return frame.assign(at_s=frame.pop("monotonic_s") - clock_zero_s)


def _floor(folder: Path, arm: str, repeat: int, server: str) -> pd.DataFrame | None:
    return records.read(folder, arm, repeat, server).frame if folder.is_dir() else None


def read_tokens(path: Path) -> dict[str, list[int]] | None:
    """Token ids by prompt; None where there is no such file that can be read."""
    try:
        table = pq.read_table(path, columns=["id", "token_ids"]).to_pydict()
    except (OSError, pa.ArrowException):  # none, cut off, or written by something else
        return None
    if not {"id", "token_ids"} <= table.keys():
        return None
    return dict(zip(table["id"], table["token_ids"], strict=True))


def _facts(value: Any) -> CacheFacts | None:
    """None for a file of another shape: what the engine said is unknown then."""
    try:
        return CacheFacts(**value) if value else None
    except TypeError:
        return None


WARMED = ("id", "static_tokens", "cached_tokens", "prefill_s", "verified")


def _warmed(value: Any) -> list[dict[str, Any]] | None:
    rows = value if isinstance(value, list) else []
    whole = all(isinstance(row, dict) and set(WARMED) <= row.keys() for row in rows)
    return rows if whole and isinstance(value, list) else None


def _object(path: Path) -> dict[str, Any] | None:
    value = read_json(path)
    return value if isinstance(value, dict) else None


def _loads(folder: Path) -> list[dict[str, Any]]:
    """What each load process said of itself."""
    found = [_object(path) for path in sorted(folder.glob("load-*.json"))]
    return [load for load in found if load and {"cpu_s", "wall_s"} <= load.keys()]


def _lags(folder: Path) -> list[float]:
    return [lag for load in _loads(folder) for lag in load.get("lags_s", ())]


def read_json(path: Path) -> Any:
    """The value in a JSON file; None where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _generator_cpu(folder: Path) -> float | None:
    shares = [
        load["cpu_s"] / load["wall_s"]
        for load in _loads(folder)
        if load["wall_s"] >= MIN_LOAD_WALL_S
    ]
    return max(shares) if shares else None


def _metrics(path: Path) -> Metrics | None:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
