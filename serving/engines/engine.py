"""The seam between the toolkit and an inference server: everything that differs between engines.

An engine is pure: it turns a server file and an arm into a command, and what a server says of
itself into facts. It starts nothing and talks to nobody. Another engine is one more file beside
vllm.py and one more row in engines.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from aot.configs.schema.experiment import Arm
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.counters import CacheCounters, CacheFacts, Metrics
from aot.serving.engines.histograms import Where

SECRET_NAME = re.compile(r"(^|[_-])(TOKEN|KEY|SECRET|PASSWORD|CREDENTIALS?)$", re.IGNORECASE)
"""Variables and flags that hold a secret: their values are never shown or written."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a launch needs to know of this machine beside the server file."""

    bin_dir: Path
    model: str
    port: int
    device: Literal["cpu", "cuda"]
    cpu_flags: frozenset[str] = frozenset()
    serve_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """Exactly what will be started. `secrets` maps a variable of the engine to the variable of
    ours that holds its value; the value itself is never in a plan."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    secrets: Mapping[str, str]
    not_inherited: tuple[str, ...]
    """Variables of our own environment that the engine must not see."""
    host: str
    port: int
    health_path: str
    served_name: str
    container: str | None = None
    """The name of the container that `argv` runs; None for a process of this machine."""

    @property
    def base_url(self) -> str:
        # A server that listens on all interfaces is reached through loopback.
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def as_shell(self) -> str:
        """The command as a person would paste it; secrets stay references."""
        shown = {k: "(hidden)" if SECRET_NAME.search(k) else v for k, v in self.env.items()}
        words = [f"{k}={shlex.quote(v)}" for k, v in sorted(shown.items())]
        words += [f'{k}="${source}"' for k, source in sorted(self.secrets.items())]
        return " ".join([*words, shlex.join(self.argv)])


@dataclass(frozen=True, slots=True)
class Page:
    """What a running server says of itself: its counters, and its settings as JSON (empty where
    the engine has no such page, or does not let us read it)."""

    metrics: Metrics
    info: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reset:
    """The endpoint that empties the cache: POST `path`."""

    path: str
    needs_dev_mode: bool


class Engine(Protocol):
    """One kind of inference server: its command line, its counters, its rules of reuse."""

    name: str
    health_path: str
    health_timeout_s: float
    """How long one answer of `health_path` may take."""
    alive_path: str
    """Answers at once, under load, too, as long as the server can: what routers ask."""
    info_path: str | None
    """A JSON page with the server's version and settings."""
    reset: Reset | None
    has_salts: bool
    """Whether a request's `cache_salt` gives it a cache of its own."""
    gauges: Mapping[str, str]
    """What to watch during a replay, by what analysis calls it: running, waiting (requests),
    kv_usage (share), and counters since the start: preemptions, evicted_tokens."""
    stages: Mapping[str, Where]
    """The histograms of a request's stages, seconds: queue, prefill, decode, ttft, e2e."""
    failure_line: re.Pattern[str]
    """Log lines that say why the engine died."""
    cores_variable: str
    """Environment variable that binds a CPU engine's threads to cores (0-3)."""

    def plan(self, server: ServerConfig, arm: Arm, site: Site) -> LaunchPlan:
        """The command for `server` under `arm`. Raises UsageError for settings it cannot serve."""
        ...

    def recognises(self, page: Page) -> bool:
        """Whether `page` is one of this engine."""
        ...

    def version(self, page: Page) -> str | None:
        """The engine's version; None where it does not say."""
        ...

    def cache_facts(self, page: Page) -> CacheFacts:
        """What the running engine itself says of its cache."""
        ...

    def counters(self, metrics: Metrics) -> CacheCounters:
        """Cumulative counters since the engine started."""
        ...

    def reset_refusal(self, status: int, body: str) -> str | None:
        """None when the answer of `reset` means that the cache is empty now, else why not."""
        ...

    def expected_cached_tokens(self, shared: int, prompt_tokens: int, block_tokens: int) -> int:
        """Cached tokens of a prompt whose first `shared` tokens are in the cache."""
        ...


def whole_blocks(shared: int, prompt_tokens: int, block_tokens: int) -> int:
    """The rule of both engines: only full blocks are found, and the last token of a prompt is
    always recomputed for its logits (vLLM: v1/core/kv_cache_manager.py, get_computed_blocks;
    SGLang: managers/schedule_batch.py, _compute_max_prefix_len; its default block is one token).
    """
    return max(0, min(shared, prompt_tokens - 1)) // block_tokens * block_tokens


# bfloat16 without these is emulated: a 1,600-token prefill of a 135M model took 44 s in bfloat16
# and 10 s in float32 on an AVX2 machine; with AVX512-BF16 bfloat16 is the faster one.
CPU_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


def dtype(server: ServerConfig, site: Site) -> str:
    """The dtype to ask for: what the file says, and for 'auto' on a CPU what it computes fast."""
    if server.dtype != "auto" or site.device != "cpu":
        return server.dtype
    return "bfloat16" if site.cpu_flags & CPU_BF16_FLAGS else "float32"
