"""The seam between the toolkit and an inference server: everything that differs between engines.

An engine is pure: it turns a server file and an arm into a command, and what a server says of
itself into facts. It starts nothing and talks to nobody. Another engine is one module beside
vllm.py, one row in table.py, and its data files in configs/engines/ (docs/architecture.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

from packaging.version import InvalidVersion, Version

from aot.configs.caches.rule import CacheRule, dense
from aot.configs.kernel.errors import UsageError
from aot.configs.loading.settings import Value
from aot.configs.schema.beside import RouterName
from aot.configs.schema.experiment import Arm
from aot.configs.schema.hardware import Architecture
from aot.configs.schema.recipe import Device
from aot.configs.schema.server import ServerConfig
from aot.configs.schema.variables import held, plain, sources
from aot.serving.engines.card.budget import Budget, Place
from aot.serving.engines.card.pools import Held, Kept, in_full
from aot.serving.engines.flags import FileRules, meant, without
from aot.serving.engines.launch_plan import LaunchPlan, Site
from aot.serving.metrics.counters import CacheCounters, CacheFacts, Metrics
from aot.serving.metrics.histograms import Where


@dataclass(frozen=True, slots=True)
class Page:
    """What a running server says of itself: its counters, and its settings as JSON (empty where
    the engine has no such page, or does not let us read it)."""

    metrics: Metrics
    info: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of its model, where that is on this machine."""
    args: Sequence[str] = ()
    """What it was started with, where it was by us."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The endpoint that empties the cache: POST `path`."""

    path: str
    needs_dev_mode: bool


@dataclass(frozen=True, slots=True)
class Watched:
    """What an engine calls what is watched, for rules and dashboards: selectors of counters, gauges
    and histograms (their names without a suffix)."""

    hits: str
    lookups: str
    computed: str
    ttft: str
    ttft_bounds_s: tuple[float, ...]
    """Where the buckets of the TTFT histogram end."""
    running: str
    waiting: str
    kv_usage: str
    output: str
    preemptions: str
    kept_s: str
    """An expression by instance: for how long what nobody uses stays, while something is evicted;
    no value where nothing is."""
    hits_beyond: str | None = None
    """Found in host memory, on a disk or in a store, where `hits` counts the device's alone."""


@dataclass(frozen=True, slots=True)
class Packaging:
    """How an engine is run by others than us."""

    images: Mapping[Device, str]
    """Official images, with {version} for the version of the recipe."""
    command: Callable[[Sequence[str], bool], tuple[tuple[str, ...], dict[PurePosixPath, Path]]]
    """From the command of a local start, and whether there is a key: the same by the names that
    the image has for it, and the files of the toolkit that it needs there."""
    waiting_metric: str
    """Requests that wait, by which an autoscaler starts replicas."""
    key_variable: str
    """The variable of the engine that holds the API key."""
    charts: frozenset[str]
    """The Helm charts that serve it."""
    more_cards: Callable[[Sequence[str]], int] = lambda _: 1
    """By how many arguments (of `canonical`) multiply the cards of tensor parallelism."""
    with_stores: frozenset[Device] = frozenset()
    """Devices whose official image has the programs of KV stores in it."""
    user: int | None = None
    """The user without rights that its official image for a GPU has; None: it runs as root."""
    drain: Callable[[int], tuple[str, ...]] = lambda _: ()
    """Arguments with which it finishes what runs for so many seconds when it is told to end."""
    watched_with: tuple[str, ...] = ()
    """An argument without which rules and dashboards lack something."""
    host_tier_gib: Callable[[ServerConfig], float] = lambda _: 0.0
    """Host memory that its cache goes on in. UsageError where that is not known beforehand."""
    caches: Mapping[str, str] = field(default_factory=dict)
    """Variables of the folders in which it keeps what it compiled, below the volume's."""
    ulimits: Mapping[str, Any] = field(default_factory=dict)
    """For Docker Compose."""


@dataclass(frozen=True, slots=True)
class MemoryRules:
    """What an engine does with the memory of a card."""

    budget: Callable[[ServerConfig, Architecture, Place, int], Budget]
    """What it uses of one of so many cards. UsageError for arguments that should be numbers."""
    asked_gib: Callable[[ServerConfig, int, int], float | None]
    """The cache that the server file asks for, by bytes per token and tokens per block; None where
    the engine takes what is left."""
    takes_what_there_is: bool
    """Whether a cache that has no room is made smaller, rather than refused."""
    fp8_cache: str
    """What --kv-cache-dtype calls an FP8 cache."""
    smaller_batch: Sequence[str]
    """Arguments that leave more of a card for the cache; empty where none do."""
    held: Callable[[ServerConfig, Place, int, Kept, int, int], Held] = (
        lambda _server, _place, cache, of, block, _context: in_full(cache, of, block)
    )
    """What a cache of so many bytes holds, by what layers keep, tokens per block, and the longest
    request."""
    at_once: Callable[[ServerConfig, Place], int | None] = lambda *_: None
    """Requests that it is started for: each needs its states; None where it makes do."""
    not_computed: Mapping[str, str | None] = field(default_factory=dict)
    """Arguments that divide the weights in other ways, or need memory that is not in the sums (with
    * behind it all that begin so), and the value under which they do nothing; None: there is none.
    """
    text_alone: str | None = None
    """The argument under which an encoder of images or sound is left out."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """The cache-relevant settings of an engine."""

    flags: Mapping[str, str]
    """Engine arguments by the names that `aot tune --over` has for them."""
    usual: Callable[[ServerConfig, Device], list[tuple[str, list[Value]]]]
    """What is tried unless told: settings with their values."""


class Engine:
    """One kind of inference server: its command line, its counters, its rules of reuse.

    As it stands here it is any OpenAI-compatible server that runs already: its answers' usage
    blocks are all that is known of its cache. An engine says what it knows beyond that; what it
    does not say is unknown.
    """

    name: str = "openai"
    title: str = "an OpenAI-compatible server"
    """As its makers write it."""
    health_path: str = "/v1/models"
    health_timeout_s: float = 5.0
    """How long one answer of `health_path` may take."""
    alive_path: str = "/v1/models"
    """Answers at once, under load, too, as long as the server can: what routers ask."""
    info_path: str | None = None
    """A JSON page with the server's version and settings, `version` among them. One that other
    versions have elsewhere has both paths, with a | between them."""
    folder_key: str = ""
    """Key of that page that names the model's folder; empty where /v1/models does."""
    reset: Reset | None = None
    has_salts: bool = False
    """Whether a request's `cache_salt` gives it a cache of its own."""
    salts_since: str = "0"
    """The first version in which it does."""
    unsalted_endpoints: frozenset[str] = frozenset()
    """Kinds of endpoints at which it does not."""
    gauges: Mapping[str, str] = MappingProxyType({})
    """What to watch during a replay, by what analysis calls it: running, waiting (requests),
    kv_usage (share), and counters since the start: preemptions, evicted_tokens. One that other
    versions call otherwise has both names, with a | between them."""
    stages: Mapping[str, Where] = MappingProxyType({})
    """Histograms, seconds. Of a request's stages: queue, prefill, decode, ttft, e2e; of a block's
    life: block_lifetime, block_idle (until it was taken for something else), block_reuse_gap."""
    failure_line: re.Pattern[str] = re.compile(r"[Ee]rror")
    """Log lines that say why the engine died."""
    out_of_memory: re.Pattern[str] = re.compile(r"out of memory")
    """What it says at its start when memory does not suffice."""
    cores_variable: str = ""
    """Environment variable that binds a CPU engine's threads to cores (0-3)."""
    default_blocks: Mapping[Device, int] = MappingProxyType({"cpu": 1, "cuda": 1})
    """Tokens of a block, where the server file does not say."""
    default_router: RouterName = "smg"
    """What stands in front of replicas, where the server file does not say."""
    rendering_args: Sequence[str] | None = None
    """Arguments with which it renders prompts for a router; None where it cannot."""
    reports_cached_by: str = ""
    """The argument with which answers say how many tokens were cached."""
    requests_metric: str = ""
    """The counter of requests that were answered."""
    remedies: Mapping[str, str] = MappingProxyType({})
    """What mends a fault of its cache, by the fault's name (serving/health/faults.py)."""
    capacity_metric: str = ""
    """The metric that says how large its cache is."""
    block_hashes: Callable[[Sequence[int], int, str | None], list[str]] | None = None
    """The names under which it keeps the full blocks of a prompt (ids, block size, salt); None
    where they are not known."""
    file_rules = FileRules()
    packaging: Packaging | None = None
    watched: Watched | None = None
    memory: MemoryRules | None = None
    tuning: Tuning | None = None
    """All four None or empty for a server that is never started by the toolkit."""

    def command(
        self, server: ServerConfig, arm: Arm, site: Site
    ) -> tuple[list[str], dict[str, str]]:
        """The arguments for `server` under `arm`, and the variables of the environment; what the
        file and the recipe add to both comes after them. Raises UsageError for settings it
        cannot serve."""
        raise UsageError(f"engine: {self.name} is a server that runs already: it is not launched")

    def plan(self, server: ServerConfig, arm: Arm, site: Site) -> LaunchPlan:
        """Exactly what is started. Raises UsageError for settings it cannot serve."""
        argv, env = self.command(server, arm, site)
        tiers = self.file_rules.tier_flags if arm == "jit" else frozenset()
        source = server.api_key_env
        return LaunchPlan(
            argv=(*argv, *site.serve_args, *without(server.args, self.name, tiers)),
            env={**env, **site.env, **plain(server.env)},
            secrets={
                **({self.packaging.key_variable: source} if self.packaging and source else {}),
                **sources(server.env),
            },
            held=held(server.env),
            not_inherited=tuple(self.file_rules.own_env),
            host=server.host,
            port=site.port,
            health_path=self.health_path,
            served_name=server.name_in_api,
        )

    def outlives(self, server: ServerConfig) -> bool:
        """Whether its cache has a tier that a new process may find filled."""
        flags = self.file_rules.outliving_flags
        return any(meant(word, self.name, flags) for word in server.args)

    def recognises(self, page: Page) -> bool:
        """Whether `page` is one of this engine."""
        return True

    def version(self, page: Page) -> str | None:
        """The engine's version; None where it does not say."""
        version = page.info.get("version")
        return str(version) if version else None

    def lacks_salts(self, version: str | None, endpoint: str = "chat") -> str | None:
        """Why requests to this version, at a kind of endpoint, can have no cache salts, in words;
        None where they can. A version that is not said, or is none, is taken for a new one."""
        if not self.has_salts:
            return f"engine '{self.name}' has no cache salts"
        if endpoint in self.unsalted_endpoints:
            return f"{self.title} takes no cache salt at its endpoint for {endpoint}"
        try:
            old = version is not None and Version(version) < Version(self.salts_since)
        except InvalidVersion:
            old = False
        since = f"they work from {self.salts_since} on"
        return f"{self.title} {version} has no cache salts ({since})" if old else None

    def cache_facts(self, page: Page) -> CacheFacts:
        """What the running engine itself says of its cache."""
        return CacheFacts(None, None, None)

    def planned_rule(
        self, block_tokens: int, model: Mapping[str, Any], args: Sequence[str]
    ) -> CacheRule | None:
        """The rule of the cache that it has for a `model` (its config.json) when it is started with
        `args`; None where that is not known here."""
        return dense(block_tokens)

    def counters(self, metrics: Metrics) -> CacheCounters:
        """Cumulative counters since the engine started."""
        return CacheCounters(None, None, None, None, None)

    def reset_refusal(self, status: int, body: str) -> str | None:
        """None when the answer of `reset` means that the cache is empty now, else why not."""
        return "this server has no known way to empty its cache"
