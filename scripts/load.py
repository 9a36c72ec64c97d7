"""`aot load`: one schedule against a server that is already running → a run directory.

Loading twice into one directory, with different arms, gives a report that compares them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from analysis.runs import phase_name
from configs.errors import UsageError
from configs.schema import Arm
from scripts import manifest, plan
from scripts.experiment import snapshot, write_json
from scripts.terminal import bar, status
from serving import engines, warm
from serving.endpoint import Endpoint
from workloads import replay
from workloads import schedule as schedule_file
from workloads.request import Schedule


def load_into(folder: Path, schedule: Schedule, endpoint: Endpoint, arm: Arm) -> None:
    """Replay `schedule` as the next repeat of `arm` in `folder`, making it a run if it is none."""
    repeat = _add_phase(folder, schedule, endpoint, arm)
    phase = folder / "phases" / phase_name(arm, repeat)
    phase.mkdir(parents=True)
    job = replay.Replay(
        schedule=folder / "schedule.jsonl",
        base_url=endpoint.base_url,
        model=endpoint.model,
        users=schedule.users,
        folder=phase,
        arm=arm,
        repeat=repeat,
        api_key_env=endpoint.api_key_env,
    )
    if arm == "aot":
        warmed = warm_prefixes(endpoint, schedule)
        write_json(phase / "warm.json", [w.as_json() for w in warmed])
        warm.insist(warmed)
    snapshot(endpoint, phase / "metrics-before.txt")
    with bar(f"replaying {schedule.name} as {arm}", len(schedule.requests)) as progress:
        replay.run(job, progress)
    snapshot(endpoint, phase / "metrics-after.txt")
    write_json(phase / "done.json", {"ended_utc": datetime.now(UTC).isoformat()})


def warm_prefixes(endpoint: Endpoint, schedule: Schedule) -> list[warm.Warmed]:
    """Compile the schedule's static prefixes into the cache of a running server."""
    engine = engines.detect(endpoint.metrics())
    tokens = plan.count_tokens(schedule, endpoint.tokenize)
    prefixes = plan.static_prefixes(schedule, tokens)
    with status("compiling static prefixes ahead of time") as line:
        return warm.warm(endpoint, engine, prefixes, line)


def _add_phase(folder: Path, schedule: Schedule, endpoint: Endpoint, arm: Arm) -> int:
    """Register the phase in the manifest; the number of its repeat."""
    if not (folder / "manifest.json").exists():
        _create(folder, schedule, endpoint)
    elif schedule_file.read(folder / "schedule.jsonl") != schedule:
        raise UsageError(
            f"{folder} holds another schedule; arms can be compared on the same traffic only. "
            "Choose another folder with -o"
        )
    facts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    repeat = 1 + [p["arm"] for p in facts["phases"]].count(arm)
    facts["phases"].append({"repeat": repeat, "arm": arm, "url": endpoint.base_url})
    manifest.write(folder, facts)
    return repeat


def _create(folder: Path, schedule: Schedule, endpoint: Endpoint) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} exists and is no run directory; choose another with -o")
    folder.mkdir(parents=True, exist_ok=True)
    digest = schedule_file.write(schedule, folder / "schedule.jsonl")
    tokens = plan.count_tokens(schedule, endpoint.tokenize)
    if tokens is not None:
        plan.write_tokens(tokens, folder / "tokens.parquet")
    engine = engines.detect(endpoint.metrics())
    manifest.write(
        folder, manifest.new(schedule.name, engine.name if engine else None, endpoint.model, digest)
    )
