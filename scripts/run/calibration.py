"""What `aot calibrate` measured, kept by machine and server file: how starts of a server differ."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aot.analysis.inference.starts import Starts
from aot.configs.kernel.files import replacing
from aot.configs.kernel.places import home, writable
from aot.scripts.run.target import Target
from aot.serving.local.machine import this_machine

FORMAT = "aot-calibration/1"


def file(target: Target) -> Path:
    """Where that of a target is kept, whether it is there or not."""
    machine = this_machine()
    facts = {"cpu": machine.cpu, "gpus": list(machine.gpus), "server": target.resolved()}
    text = json.dumps(facts, sort_keys=True, default=str)
    return home() / ".calibrations" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def of(target: Target) -> dict[str, Any] | None:
    """`Starts` of a target as JSON, with when it was measured; None where it was not, or by
    another version."""
    try:
        facts: dict[str, Any] = json.loads(file(target).read_text(encoding="utf-8"))
        known = {k: facts[k] for k in ("log_sd", "degrees", "measured_utc")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if facts.get("format") == FORMAT else None


def keep(target: Target, starts: Starts, run: Path) -> Path:
    """Write down what was measured in `run`; replaces what was known."""
    path = file(target)
    writable(path.parent)
    facts = {
        "format": FORMAT,
        **asdict(starts),
        "measured_utc": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "machine": this_machine().cpu,
        "server": str(target.path.resolve()),
        "run": str(run.resolve()),
    }
    with replacing(path) as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return path
