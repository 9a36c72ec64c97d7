"""How long a report takes and how much memory, on a run of made-up records.

    python -P scripts/bench/report.py [--records 10000] [--chunks 128]

The run has three arms of equal size; the schedule and the token counts are left out, as for a run
whose schedule was lost, so that what is timed is reading, statistics, figures and pages.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from aot.workloads.wire.record import Record, RecordHeader

ARMS = {"jit": 1.0, "auto": 0.3, "aot": 0.1}


def main(
    records: Annotated[int, typer.Option(help="records in all, over three arms")] = 10_000,
    chunks: Annotated[int, typer.Option(help="text chunks of each")] = 128,
) -> None:
    """Seconds and peak memory of one report."""
    from aot.analysis import report

    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        _make(run, records, chunks)
        size = sum(p.stat().st_size for p in run.rglob("*.jsonl"))
        began = time.perf_counter()
        report.write(run)
        took_s = time.perf_counter() - began
        parquet = (run / "records.parquet").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    facts = {
        "records": records, "chunks_per_record": chunks, "jsonl_bytes": size,
        "parquet_bytes": parquet, "report_s": round(took_s, 2), "peak_bytes": peak,
    }  # fmt: skip
    sys.stdout.write(json.dumps(facts, indent=1) + "\n")


def _make(run: Path, records: int, chunks: int) -> None:
    rng = np.random.default_rng(1)
    server = {"engine": "vllm", "model": "m", "remote": False, "versions": {}}
    phases = [{"repeat": 1, "arm": a, "server": "s", "folder": f"r1-{a}"} for a in ARMS]
    run.mkdir()
    manifest = {
        "name": "bench", "started_utc": "", "servers": {"s": server}, "phases": phases,
        "machine": {"cpu": "", "gpus": []}, "command": "",
    }  # fmt: skip
    (run / "manifest.json").write_text(json.dumps(manifest))
    for arm, scale in ARMS.items():
        folder = run / "phases" / f"r1-{arm}" / "records"
        folder.mkdir(parents=True)
        with (folder / "requests-0.jsonl").open("w", encoding="utf-8") as file:
            file.write(RecordHeader(arm, 1, 0, "2026-01-01T00:00:00+00:00", 0.0, "x").to_line())
            for n in range(records // len(ARMS)):
                sent = round(n * 0.01, 6)
                first = sent + scale * rng.lognormal(0, 0.3)
                times = np.round(first + np.cumsum(rng.exponential(0.02, chunks)), 6).tolist()
                record = Record(
                    f"r{n}", arm, 1, "t", "p", sent, sent, times[0], times[-1], times, 2000,
                    0 if arm == "jit" else 1900, chunks, 200,
                )  # fmt: skip
                file.write(record.to_line())


if __name__ == "__main__":
    typer.run(main)
