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

from aot.analysis.runs import records
from aot.analysis.runs.records import Keep
from aot.serving.engines.engine import Engine
from aot.serving.metrics import store_counters
from aot.serving.metrics.counters import CacheCounters, CacheFacts, Metrics, parse, sum_up
from aot.serving.metrics.histograms import Histogram, between, together
from aot.serving.metrics.resets import impossible, reset
from aot.serving.metrics.store_counters import StoreCounters

SCRAPED_EVERY_S = 1.0
MEANS = ("kv_usage", "monotonic_s")
COUNTED = ("preemptions", "evicted_tokens")
"""Of what is scraped once a second, what counts from the start of the engine on."""
MIN_LOAD_WALL_S = 2.0
"""Below this, the start of the load generator would be all that its CPU share shows."""


@dataclass(frozen=True, slots=True)
class Replica:
    """One engine behind a router. `counters` and `requests` (answered, by its own count) are None
    where it was not scraped; `alive`: at the end of the replay, None where that is not known."""

    counters: CacheCounters | None
    requests: float | None
    alive: bool | None


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
    headless: list[str]
    """Record files without a header."""
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
    """Records of workloads/plan/floor.py; None where it was not measured."""
    store_alive: bool | None
    """Whether the KV store answered to the end; None without one."""
    store_lost_writes: int
    """Chunks that its disk did not take."""
    store_counters: StoreCounters | None
    """What the store counted over the replay; None without one, or where somebody else runs it."""
    replicas: list[Replica]
    """Behind a router; empty where there is none."""
    tokens: dict[str, list[int]] | None
    """Of prompts with the server's own answers in them; None where there are none."""
    restarted: str | None = None
    """What shows that an engine began anew during the replay: then there are no counters of it."""

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
    recorded = records.read(folder / "records", arm, repeat, server, keep)
    alive = (_object(folder / "replicas.json") or {}).get("alive")
    numbers = range(len(alive)) if isinstance(alive, list) else (None,)
    pages = [_pages(folder, number, engine) for number in numbers]
    gauges = _gauges(folder / "server.jsonl", recorded.clock_zero_s)
    store = _object(folder / "store.json") or {}
    restarted = next((why for _, _, why in pages if why), None)
    return Phase(
        name=folder.name,
        arm=arm,
        repeat=repeat,
        complete=(folder / "done.json").exists(),
        records=recorded.frame,
        gaps_s=recorded.gaps_s,
        broken_lines=recorded.broken_lines,
        foreign=recorded.foreign,
        headless=recorded.headless,
        facts=_facts(read_json(folder / "facts.json")),
        counters=_sum([counters for counters, _, _ in pages]),
        proof=_object(folder / "proof.json"),
        warmed=_warmed(read_json(folder / "warm.json")),
        schedule_hashes=recorded.schedule_hashes,
        command=(_object(folder / "command.json") or {}).get("command"),
        generator_cpu=_generator_cpu(folder / "records"),
        lags_s=_lags(folder / "records"),
        stages=together([stages for _, stages, _ in pages]),
        store_alive=store.get("alive"),
        store_lost_writes=store.get("lost_writes", 0),
        store_counters=_store_counters(folder),
        replicas=[
            Replica(
                counters,
                stages["e2e"].count if "e2e" in stages else None,
                up if isinstance(up, bool) else None,
            )
            for (counters, stages, _), up in zip(pages, alive or (), strict=bool(alive))
        ],
        gauges=gauges.drop(columns=list(COUNTED), errors="ignore") if restarted else gauges,
        floor=_floor(folder / "floor" / "records", arm, repeat, server),
        tokens=read_tokens(folder / "tokens.parquet"),
        restarted=restarted or _fallen(gauges),
    )


def metrics_file(when: str, replica: int | None) -> str:
    """The name of a snapshot of /metrics: of the server, or of one of its replicas."""
    return f"metrics-{when}.txt" if replica is None else f"metrics-{when}-{replica}.txt"


def store_metrics_file(when: str) -> str:
    """The name of a snapshot of the KV store's own /metrics."""
    return f"metrics-{when}-store.txt"


def _pages(
    folder: Path, replica: int | None, engine: Engine
) -> tuple[CacheCounters | None, dict[str, Histogram], str | None]:
    """What changed over the replay, by the snapshots before and after it; nothing where the engine
    was restarted between them, and what shows that."""
    names = (metrics_file(when, replica) for when in ("before", "after"))
    before, after = (_metrics(folder / name) for name in names)
    if not before or not after:
        return None, {}, None
    counters = engine.counters(after) - engine.counters(before)
    if why := reset(before, after) or impossible(counters):
        return None, {}, why if replica is None else f"{why} (replica {replica})"
    return counters, between(before, after, engine.stages), None


def _store_counters(folder: Path) -> StoreCounters | None:
    before, after = (
        store_counters.read(_metrics(folder / store_metrics_file(when)) or {})
        for when in ("before", "after")
    )
    return after - before if before and after else None


def _sum(replicas: list[CacheCounters | None]) -> CacheCounters | None:
    """All replicas together; None where one of them is unknown."""
    known = [counters for counters in replicas if counters is not None]
    return sum_up(known) if len(known) == len(replicas) else None


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
    if "replica" in frame:
        frame = _over_replicas(frame)
    return frame.assign(at_s=frame.pop("monotonic_s") - clock_zero_s)


def _over_replicas(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for each round of scrapes: sums, and of a share the mean."""
    # Each is scraped once a second, in no order; one that does not answer is left out of a round,
    # but what it had counted stays counted.
    rounds = (frame["monotonic_s"] - frame["monotonic_s"].min()).floordiv(SCRAPED_EVERY_S)
    by_replica = frame.groupby([rounds.rename("round"), "replica"]).last().unstack()
    columns = {}
    for name in dict.fromkeys(by_replica.columns.get_level_values(0)):
        each = by_replica[name].ffill() if name in COUNTED else by_replica[name]
        columns[name] = each.mean(axis=1) if name in MEANS else each.sum(axis=1)
    return pd.DataFrame(columns).reset_index(drop=True)


def _fallen(gauges: pd.DataFrame) -> str | None:
    """What fell during the replay although it only ever rises."""
    falls = (name for name in COUNTED if name in gauges and (gauges[name].diff() < 0).any())
    return next((f"{name} fell during the replay" for name in falls), None)


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
        return CacheFacts.from_json(value) if value else None
    except (TypeError, KeyError, AttributeError):
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
    loads = [_object(path) for path in sorted(folder.glob("load-*.json"))]
    return [load for load in loads if load and {"cpu_s", "wall_s"} <= load.keys()]


def _lags(folder: Path) -> list[float]:
    """Of the load process that was late the most: several of them stand still side by side."""
    return max((list(load.get("lags_s", ())) for load in _loads(folder)), key=sum, default=[])


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
