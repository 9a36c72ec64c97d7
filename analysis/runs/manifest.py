"""manifest.json as analysis reads it; and what is known of a run that has lost it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from aot.analysis.runs.phases import read_json
from aot.configs.kernel.errors import UsageError

KEYS = ("name", "started_utc", "servers", "phases", "machine", "command")


def read(path: Path) -> dict[str, Any] | None:
    """The manifest; None where there is no JSON. UsageError where it has another shape."""
    manifest = read_json(path)
    if manifest is not None:
        _insist_on_format(path, manifest)
    facts: dict[str, Any] | None = manifest
    return facts


def _insist_on_format(path: Path, manifest: Any) -> None:
    """UsageError for a manifest that this version did not write and cannot read."""
    if not isinstance(manifest, dict):
        manifest = {}
    missing = [key for key in KEYS if key not in manifest]
    if not missing:
        servers, phases = manifest["servers"], manifest["phases"]
        if not isinstance(servers, dict) or not isinstance(phases, list):
            missing = ["servers and phases as this version writes them"]
        else:
            known = all({"engine", "model", "versions"} <= set(s) for s in servers.values())
            whole = all({"arm", "repeat", "server", "folder"} <= set(p) for p in phases)
            missing = [] if known and whole else ["parts of servers or phases"]
    if missing:
        raise UsageError(
            f"{path}: written by another version of this toolkit, or by something else (it lacks "
            f"{', '.join(missing)}); report it with the version that made it, or measure anew"
        )


def from_folders(folder: Path) -> dict[str, Any]:
    """What the names of the phase folders tell, where the manifest is lost."""
    names = [p.name for p in sorted((folder / "phases").iterdir())]
    matches = [m for n in names if (m := re.fullmatch(r"r(\d+)-(jit|auto|aot)(?:@(.+))?", n))]
    phases = [
        {"repeat": int(m[1]), "arm": m[2], "server": m[3] or "server", "folder": m[0]}
        for m in matches
    ]
    unknown: dict[str, Any] = {"engine": None, "model": "unknown model", "versions": {}}
    return {
        "name": folder.name,
        "started_utc": "unknown time",
        "servers": {p["server"]: unknown for p in phases},
        "versions": {},
        "machine": {"cpu": "unknown machine", "gpus": []},
        "command": "unknown",
        "phases": phases,
    }
