"""manifest.json: what a run was made with, so that a reader can judge it and repeat it."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aot.configs.kernel import network
from aot.configs.kernel.files import replacing
from aot.configs.kernel.places import CHECKOUT
from aot.serving.local.machine import this_machine

FORMAT = "aot-run/2"


def new(name: str, servers: dict[str, Any], schedule_sha256: str) -> dict[str, Any]:
    """The part that every run has; phases are added by the caller. `servers`: see `server`."""
    machine = asdict(this_machine())
    machine["cpu_flags"] = sorted(machine["cpu_flags"])
    return {
        "format": FORMAT,
        "name": name,
        "started_utc": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "command": network.shown_command(sys.argv[1:]),
        "servers": servers,
        "versions": {
            "toolkit": importlib.metadata.version("aot-prefix-caching"),
            "toolkit_python": platform.python_version(),
            "locust": importlib.metadata.version("locust"),
        },
        "machine": machine,
        "git": _git(),
        "schedule_sha256": schedule_sha256,
        "phases": [],
    }


def server(engine: str, model: str, **facts: Any) -> dict[str, Any]:
    """What a run says of one server: its engine, the model's name, versions, resolved file."""
    return {"engine": engine, "model": model, "remote": False, "versions": {}, **facts}


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace manifest.json in one step."""
    with replacing(folder / "manifest.json") as partial:
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")


def _git() -> dict[str, Any] | None:
    """Commit of the toolkit's checkout and whether it has local changes; None without one."""
    if CHECKOUT is None:
        return None

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(CHECKOUT), *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(git("status", "--porcelain"))} if commit else None
