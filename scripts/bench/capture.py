"""What `aot capture` adds to the time of a first token, beside a direct connection, in one run.

    python scripts/bench/capture.py [--json]

900 streams of 128 tokens at 50 a second, 100 of them in flight: how long after the server wrote the
first text its client had it, direct and through the proxy, by one clock. The median of three runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table

from aot.configs.kernel.ports import free_port
from aot.scripts.bench.client import PER_S, TOKENS, _client
from aot.scripts.terminal import out, status

HERE, RUNS, STREAMS, IN_FLIGHT = Path(__file__).parent, 3, 900, 100
JOB = {"streams": STREAMS, "at_once": 4096, "per_s": PER_S, "gap_s": TOKENS / PER_S / IN_FLIGHT}


def main(as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False) -> None:
    """TTFT added by the proxy at 100 streams."""
    with status("measuring"):
        results = _measured()
    if as_json:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
        return
    table = Table("", "TTFT error p50, ms", "p99, ms", box=None)
    for name in ("direct", "through aot capture"):
        table.add_row(name, *(f"{results[name][q]:.2f}" for q in ("p50_ms", "p99_ms")))
    out().print(table)
    out().print(f"added at p99: {results['added_p99_ms']:.2f} ms")


def _measured() -> dict[str, Any]:
    port = free_port("127.0.0.1")
    server = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        stub = subprocess.Popen(
            [sys.executable, str(HERE / "stub.py"), str(port)], stdout=subprocess.PIPE, text=True
        )
        aot = str(Path(sys.executable).with_name("aot"))
        log = str(Path(folder) / "log.jsonl")
        proxy = subprocess.Popen(
            [aot, "capture", "--to", server, "-o", log, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert stub.stdout is not None
            assert proxy.stdout is not None
            stub.stdout.readline()
            passed = proxy.stdout.readline().split()[0]
            runs = [
                {name: _late(url, server) for name, url in (("d", server), ("p", passed))}
                for _ in range(RUNS)
            ]
        finally:
            for process in (proxy, stub):
                process.terminate()
                process.wait()
    direct, through = (
        {q: median(run[name][q] for run in runs) for q in ("p50_ms", "p99_ms")} for name in "dp"
    )
    added = median(run["p"]["p99_ms"] - run["d"]["p99_ms"] for run in runs)
    return {"direct": direct, "through aot capture": through, "added_p99_ms": added}


def _late(url: str, server: str) -> dict[str, float]:
    client = _client("ours", url, JOB)
    with urllib.request.urlopen(f"{server}/stamps") as answer:
        written = json.load(answer)
    late = sorted(1000 * (came - written[key][0]) for key, came in client["first_s"].items())
    return {"p50_ms": late[len(late) // 2], "p99_ms": late[int(len(late) * 0.99)]}


if __name__ == "__main__":
    typer.run(main)
