"""The seam between the toolkit and an inference server: everything that differs between engines.

An engine is pure: it turns a server file and an arm into a command, and a /metrics page into
facts. It starts nothing and talks to nobody. A second engine is one more file beside vllm.py and
one more row in engines.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from configs.errors import UsageError
from configs.schema import Arm, ServerConfig
from serving.counters import CacheCounters, CacheFacts, Metrics

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


class Engine(Protocol):
    """One inference server: its command line, its counters, its rules of reuse."""

    name: str
    health_path: str
    reset_path: str | None
    """POST here empties the cache (None: the engine has no such endpoint)."""
    failure_line: re.Pattern[str]
    """Log lines that say why the engine died."""

    def plan(self, server: ServerConfig, arm: Arm, site: Site) -> LaunchPlan:
        """The command for `server` under `arm`. Raises UsageError for settings it cannot serve."""
        ...

    def cache_facts(self, metrics: Metrics) -> CacheFacts:
        """What the running engine itself says of its cache."""
        ...

    def counters(self, metrics: Metrics) -> CacheCounters:
        """Cumulative counters since the engine started."""
        ...

    def reset_succeeded(self, status: int, body: str) -> bool:
        """Whether the answer of `reset_path` means that the cache is empty now."""
        ...

    def expected_cached_tokens(self, shared: int, prompt_tokens: int, block_tokens: int) -> int:
        """Cached tokens of a prompt whose first `shared` tokens are in the cache."""
        ...


def refuse(server: ServerConfig, own_flags: Mapping[str, str], own_env: Mapping[str, str]) -> None:
    """UsageError for arguments and variables that the toolkit sets, or that hold a secret."""
    for arg in server.args:
        flag = arg.split("=", 1)[0].replace("_", "-")
        if flag in own_flags:
            raise UsageError(f"args: {flag} does not belong there: {own_flags[flag]}")
        if flag.startswith("--") and SECRET_NAME.search(flag):
            raise UsageError(
                f"args: {flag} would show its value in every process list; set it in the "
                "environment instead (export it before the start, or the key 'env')"
            )
    for name in server.env:
        if name in own_env:
            raise UsageError(f"env: {name} does not belong there: {own_env[name]}")
