"""The files of a replay: records line by line, and how the load generator fared."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from aot.workloads.wire.record import Record, RecordHeader


@dataclass(slots=True)
class Sink:
    """requests-WORKER.jsonl and load-WORKER.json in `folder`, which is made; beside it one with a
    number when it holds an earlier replay's records (the web UI can start a test twice), which are
    never overwritten. `zero`: the start of the replay on this machine's monotonic clock."""

    folder: Path
    arm: str
    repeat: int
    schedule_sha256: str
    zero: float
    _open: dict[int, TextIO] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken, chosen = 1, self.folder
        while chosen.exists() and any(chosen.iterdir()):
            taken += 1
            chosen = self.folder.with_name(f"{self.folder.name}-{taken}")
        chosen.mkdir(parents=True, exist_ok=True)
        self.folder = chosen

    def write(self, worker: int, lines: str) -> None:
        """Records of one worker, as lines. Flushed at once: a crash loses nothing that came in."""
        if worker not in self._open:
            path = self.folder / f"requests-{worker}.jsonl"
            self._open[worker] = path.open("w", encoding="utf-8")
            self._open[worker].write(self._header(worker).to_line())
        handle = self._open[worker]
        if not handle.closed:
            handle.write(lines)
            handle.flush()

    def keep(self, record: Record) -> None:
        self.write(0, record.to_line())

    def load(self, worker: int, facts: dict[str, Any]) -> None:
        """How worker `worker` fared: cpu_s, wall_s, max_in_flight, lags_s."""
        path = self.folder / f"load-{worker}.json"
        path.write_text(json.dumps(facts), encoding="utf-8")

    def close(self) -> None:
        for handle in self._open.values():
            handle.close()

    def _header(self, worker: int) -> RecordHeader:
        ago = timedelta(seconds=time.perf_counter() - self.zero)
        return RecordHeader(
            arm=self.arm,
            repeat=self.repeat,
            worker=worker,
            clock_zero_utc=(datetime.now(UTC) - ago).isoformat(),
            clock_zero_monotonic_s=self.zero,
            schedule_sha256=self.schedule_sha256,
        )
