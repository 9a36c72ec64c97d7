"""Any OpenAI-compatible server that is neither vLLM nor SGLang, as far as we can tell: its answers'
usage blocks are all that is known of its cache.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.experiment import Arm
from aot.configs.schema.recipe import Device
from aot.configs.schema.router import RouterName
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.engine import (
    MemoryRules,
    Packaging,
    Page,
    Reset,
    Tuning,
    Watched,
    whole_blocks,
)
from aot.serving.engines.flags import FileRules
from aot.serving.engines.launch_plan import LaunchPlan, Site
from aot.serving.metrics.counters import CacheCounters, CacheFacts, Metrics
from aot.serving.metrics.histograms import Where


class OpenAIServer:
    """A server of unknown make. What it does not report is unknown."""

    name = "openai"
    title = "an OpenAI-compatible server"
    health_path = "/v1/models"
    health_timeout_s = 5.0
    alive_path = "/v1/models"
    info_path: str | None = None
    reset: Reset | None = None
    has_salts = False
    gauges: Mapping[str, str] = {}
    stages: Mapping[str, Where] = {}
    cores_variable = ""
    failure_line = re.compile(r"[Ee]rror")
    out_of_memory = re.compile(r"out of memory")
    default_blocks: Mapping[Device, int] = {"cpu": 1, "cuda": 1}
    default_router: RouterName = "smg"
    rendering_args: Sequence[str] | None = None
    reports_cached_by = ""
    capacity_metric = ""
    block_hashes: Callable[[Sequence[int], int, str | None], list[str]] | None = None
    file_rules = FileRules()
    packaging: Packaging | None = None
    watched: Watched | None = None
    memory: MemoryRules | None = None
    tuning: Tuning | None = None

    def plan(self, server: ServerConfig, arm: Arm, site: Site) -> LaunchPlan:
        raise UsageError("engine: openai is a server that runs already, so it is not launched")

    def recognises(self, page: Page) -> bool:
        return True

    def version(self, page: Page) -> str | None:
        return None

    def cache_facts(self, page: Page) -> CacheFacts:
        return CacheFacts(None, None, None)

    def counters(self, metrics: Metrics) -> CacheCounters:
        return CacheCounters(None, None, None, None, None)

    def reset_refusal(self, status: int, body: str) -> str | None:
        return "this server has no known way to empty its cache"

    def expected_cached_tokens(self, shared: int, prompt_tokens: int, block_tokens: int) -> int:
        return whole_blocks(shared, prompt_tokens, block_tokens)
