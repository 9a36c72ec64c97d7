"""`aot run --log`: the experiment that measures one's own requests, as they are and mended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.configs.kernel.network import base_url
from aot.configs.loading.presets import file_of
from aot.configs.schema.experiment import MENDED
from aot.scripts.connecting import connect
from aot.scripts.prompts import linting
from aot.scripts.traffic import plan
from aot.serving.client.detect import detect
from aot.workloads.corrections import corrected
from aot.workloads.traces import formats


def write(
    log: Path,
    server: Path | None,
    url: str | None,
    api_key_env: str | None,
    repeats: int | None,
    folder: Path,
) -> Path:
    """An experiment file in `folder`, with what it names beside it. UsageError for what is no log,
    and without exactly one server."""
    if (server is None) == (url is None):
        raise UsageError("--log: on which server? give --server FILE, or --url of one that runs")
    if not log.is_file() or not plan.is_log(log):
        raise UsageError(f"--log {log}: no such file, or no log of requests")
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", log.stem).strip("-.") or "log"
    file, arms = (file_of("server", server), ["jit", "auto"]) if server else (
        _running(str(url), api_key_env, folder / f"{name}-server.yaml")
    )  # fmt: skip
    experiment: dict[str, Any] = {
        "name": name,
        "server": str(file.resolve()),
        "workload": str(log.resolve()),
        "arms": arms,
    }
    if _has_static_parts(log):
        experiment["arms"] += ["aot"]
    if mended := _mended(log, folder / f"{name}-mended.jsonl"):
        experiment |= {"mended": mended.name, "arms": [*experiment["arms"], MENDED]}
    if repeats is not None:
        experiment["repeats"] = repeats
    return _written(folder / f"{name}.yaml", experiment)


def _running(url: str, api_key_env: str | None, to: Path) -> tuple[Path, list[str]]:
    """A file for the server at `url`, and the arms that can be had of it: without salts nothing
    emulates jit there."""
    engine = detect(connect(url, None, api_key_env))
    facts = {"engine": engine.name, "runtime": "remote", "url": base_url(url, "--url")}
    if api_key_env:
        facts["api_key_env"] = api_key_env
    return _written(to, facts), ["jit", "auto"] if engine.has_salts else ["auto"]


def _has_static_parts(log: Path) -> bool:
    """Whether there is anything to compile ahead of time."""
    schedule = plan.schedule_of(log, None, plan.LEARNED)
    return any(
        p.messages or p.tools or p.id.startswith("found") for p in schedule.prefixes.values()
    )


def _mended(log: Path, to: Path) -> Path | None:
    """The log without the flaws that can be mended; None where nothing is."""
    if formats.detect(log).knows != "messages":
        return None
    flaws = linting.lint(log, linting.Options()).flaws
    if not flaws:
        return None
    made = corrected.write(log, {f.rule for f in flaws}, to)
    if not made.applied:
        to.unlink()
        return None
    return to


def _written(path: Path, facts: dict[str, Any]) -> Path:
    with replacing(path) as partial:
        partial.write_text(yaml.safe_dump(facts, sort_keys=False), encoding="utf-8")
    return path
