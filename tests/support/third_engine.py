"""A third engine, as docs/architecture.md says one is added: this module, a row, its data files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from aot.configs.kernel import places
from aot.configs.loading import presets
from aot.configs.schema.experiment import Arm
from aot.configs.schema.server import ServerConfig
from aot.serving.engines import flags, table
from aot.serving.engines.card.budget import Budget
from aot.serving.engines.engine import Engine, MemoryRules, Packaging, Page, Tuning, Watched
from aot.serving.engines.flags import FileRules
from aot.serving.engines.launch_plan import Site
from aot.serving.metrics.counters import CacheCounters, CacheFacts, total

RECIPE = """\
engine: third
description: an engine of the tests
device: cuda
packages: [third==1.2.3]
probe: "import third"
"""
FLAGS = "--model\n--cache-off\n--batch-tokens\n--share\n"
SERVER = """\
engine: third
model: Qwen/Qwen3-8B
card: h100
context_tokens: 8192
"""


def _count(name: str) -> Any:
    return lambda metrics: total(metrics, f"third:{name}")


class Third(Engine):
    """What a maker of engines would write."""

    name = title = "third"
    health_path = alive_path = "/up"
    info_path = "/about"
    gauges = {"running": "third:running"}  # noqa: RUF012
    failure_line = re.compile("Error")
    out_of_memory = re.compile("no room")
    cores_variable = "THIRD_CORES"
    default_blocks = {"cpu": 8, "cuda": 8}  # noqa: RUF012
    reports_cached_by = "--report"
    capacity_metric = "third:capacity"
    file_rules = FileRules(
        instead_of={"schedule_policy": "it is SGLang's"}, own_flags={"--model": "use 'model'"}
    )
    packaging = Packaging(
        images={"cuda": "third/third:{version}"},
        command=lambda argv, _: (("third-serve", *argv[1:]), {}),
        waiting_metric="third:waiting",
        key_variable="THIRD_KEY",
        charts=frozenset({"llm-d"}),
    )
    watched = Watched(
        hits="third:hits", lookups="third:lookups", computed="third:computed",
        ttft="third:ttft_seconds", ttft_bounds_s=(0.5, 1.0, 2.0), running="third:running",
        waiting="third:waiting", kv_usage="third:kv", output="third:output",
        preemptions="third:preemptions", kept_s="third:kept_seconds",
    )  # fmt: skip
    memory = MemoryRules(
        budget=lambda *_: Budget(70.0, "a rule of its own", 1.0, "a GiB", 1.0),
        asked_gib=lambda *_: None,
        takes_what_there_is=True,
        fp8_cache="fp8",
        smaller_batch=("--batch-tokens", "64"),
    )
    tuning = Tuning(
        {"batched_tokens": "--batch-tokens"}, lambda *_: [("batched_tokens", [64, 128])]
    )

    def command(
        self, server: ServerConfig, arm: Arm, site: Site
    ) -> tuple[list[str], dict[str, str]]:
        flags.refuse(server, self.file_rules)
        argv = [str(site.bin_dir / "third"), "--model", site.model]
        argv += ["--cache-off"] if arm == "jit" else []
        return [*argv, "--host", server.host, "--port", str(site.port)], {}

    def recognises(self, page: Page) -> bool:
        return any(name.startswith("third:") for name in page.metrics)

    def cache_facts(self, page: Page) -> CacheFacts:
        return CacheFacts(True, 8, None)

    def counters(self, metrics: Any) -> CacheCounters:
        return CacheCounters(None, _count("hits")(metrics), None, None, None)

    def reset_refusal(self, status: int, body: str) -> str | None:
        return "it cannot"


def add(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Put the row into the table and the data files beside the shipped ones (copied to `folder`);
    returns a server file."""
    configs = folder / "configs"
    for name in ("engines", "routers", "stores", "cards", "architectures", "models", "servers"):
        shutil.copytree(places.CONFIGS / name, configs / name)
    (configs / "engines" / "third.yaml").write_text(RECIPE)
    (configs / "engines" / "third.flags").write_text(FLAGS)
    twins = configs / "engines" / flags.TWINS
    rows = twins.read_text().splitlines()
    head, *others = (row + "," for row in rows)
    others = [
        row + ("--batch-tokens" if row.startswith("--max-num-batched-tokens") else "")
        for row in others
    ]
    twins.write_text("\n".join([head + "third", *others]) + "\n")
    for module in (presets, flags):
        patch.setattr(module, "CONFIGS", configs)
    patch.setitem(table.ENGINES, "third", Third())
    for cached in (flags.known, flags._others, flags._twins):
        cached.cache_clear()
    server = folder / "third-server.yaml"
    server.write_text(SERVER)
    return server
