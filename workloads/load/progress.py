"""How a replay is doing, from the records that are written while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aot.workloads.wire.record_lines import RecordLines


@dataclass(frozen=True, slots=True)
class Progress:
    """So far. None where nothing is known yet."""

    finished: int
    failed: int
    ttft_p50_s: float | None
    ttft_p99_s: float | None
    hit_ratio: float | None
    rate_per_s: float | None
    """Answers over the time from the first sent to the last received."""
    in_flight: int | None


@dataclass(slots=True)
class Watcher:
    """Reads each byte of the record files once."""

    records: Path
    _lines: RecordLines = field(default_factory=RecordLines)
    _offsets: dict[Path, int] = field(default_factory=dict)
    _ttfts: list[float] = field(default_factory=list)
    _finished: int = 0
    _failed: int = 0
    _cached: float = 0
    _prompt: float = 0
    _first_s: float | None = None
    _last_s: float = 0.0

    def look(self) -> Progress:
        """Take in what was written since the last look."""
        for file in sorted(self.records.glob("requests-*.jsonl")):
            for row in self._new(file):
                self._take(row)
        ttfts = sorted(self._ttfts)
        span = self._last_s - (self._first_s or 0.0)
        return Progress(
            self._finished,
            self._failed,
            ttfts[len(ttfts) // 2] if ttfts else None,
            ttfts[int(len(ttfts) * 0.99)] if ttfts else None,
            self._cached / self._prompt if self._prompt else None,
            len(ttfts) / span if ttfts and span > 0 else None,
            self._in_flight(),
        )

    def _new(self, file: Path) -> list[Any]:
        with file.open("rb") as handle:
            handle.seek(self._offsets.get(file, 0))
            data = handle.read()
        whole = data[: data.rfind(b"\n") + 1]  # a line may be half written
        self._offsets[file] = self._offsets.get(file, 0) + len(whole)
        return self._lines.read(whole, file.name) if whole else []

    def _take(self, row: Any) -> None:
        self._finished += 1
        if row.error is not None:
            self._failed += 1
            return
        sent, first = row.sent_s, row.first_token_s
        self._ttfts.append(first - sent)
        self._first_s = sent if self._first_s is None else min(self._first_s, sent)
        self._last_s = max(self._last_s, row.last_token_s)
        if row.cached_tokens is not None and row.prompt_tokens:
            self._cached += row.cached_tokens
            self._prompt += row.prompt_tokens

    def _in_flight(self) -> int | None:
        try:
            return int((self.records / "in-flight").read_text())
        except (OSError, ValueError):
            return None
