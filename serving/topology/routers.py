"""Routers in front of replicas: their flags, and what each needs to keep a prefix on its replica.

Measured traps (each with two replicas and six to eight tenants), and what is done about them here:

- vllm-router's cache_aware asks a worker to tokenize, on a path that vLLM serves only with
  --enable-scale-out; without it every request is routed by load alone, and no error says so.
- consistent_hash without a key sends everything to one worker: every request carries the key of
  its static prefix in a header.
- sglang-router drops cache_salt, so that tenants share caches whatever they send.
- sglang-router and smg say that they are healthy before they have a worker.
- SGLang's /health generates a token, behind what is queued: a router that asks for it takes a busy
  worker for a dead one. Its /ready is asked instead.
- Under light load ties go to the first worker: prefixes are warmed as many at a time as there are
  replicas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.beside import Policy, RouterConfig
from aot.serving.engines.engine import Engine
from aot.serving.engines.launch_plan import LaunchPlan

HEALTH_EVERY_S = 2
"""How soon a dead replica gets no more requests; the routers' own default is a minute."""
OWN_FLAGS = {
    "--worker-urls": "use the key 'replicas' of the server file",
    "--host": "use the key 'host' of the server file",
    "--port": "use the key 'port' of the server file",
    "--policy": "use the key 'policy'",
    "--prometheus-port": "it is chosen freely",
    "--api-key": "it would show in every process list; the client's own key is passed on",
}


@dataclass(frozen=True, slots=True)
class Router:
    """One router: its command and its words for the policies that it has."""

    name: str
    command: tuple[str, ...]
    policies: Mapping[Policy, str]
    key_header: str
    """Requests that have the same value there go to the same worker (consistent_hash)."""
    rendered: frozenset[Policy] = frozenset()
    """Policies under which it asks a worker to render each prompt."""
    undecided_metric: str | None = None
    """Counts requests of those that it sent without having looked at caches."""
    passes_salts: bool = True
    """Whether a request's cache_salt reaches the engine."""
    flags: tuple[str, ...] = ()
    workers_by_id: bool = True
    """Whether workers are added and removed as resources (/workers/ID), or by their URL
    (/add_worker, /remove_worker)."""
    health_path: str = "/readiness"
    """200 once it has a healthy worker; /health is from the start."""
    live_path: str = "/liveness"
    """200 as soon as it listens, whether it has a worker or not."""
    health_timeout_s: float = 5.0
    failure_line: re.Pattern[str] = re.compile(r"(ERROR|Error|error:|panicked|Traceback)")

    def plan(
        self, config: RouterConfig, bin_dir: Path, finding: Sequence[str], place: Place
    ) -> LaunchPlan:
        """The command; `finding`: the flags by which it finds its workers.

        Raises UsageError for a policy that it has not got, or a flag of ours.
        """
        policy = self._policy(config)
        for arg in config.args:
            flag = arg.split("=", 1)[0]
            if flag in OWN_FLAGS:
                raise UsageError(f"router.args: {flag} does not belong there: {OWN_FLAGS[flag]}")
        program, *rest = self.command
        argv = [str(bin_dir / program), *rest, *finding, "--policy", policy]
        argv += ["--host", place.host, "--port", str(place.port)]
        argv += [
            "--prometheus-host",
            place.metrics_host,
            "--prometheus-port",
            str(place.metrics_port),
        ]
        argv += ["--health-check-interval-secs", str(HEALTH_EVERY_S)]
        argv += ["--health-check-endpoint", place.alive_path]
        argv += ["--worker-startup-check-interval", "1", *self.flags, *config.args]
        return LaunchPlan(
            argv=tuple(argv),
            env={},
            secrets={},
            not_inherited=(),
            host=place.host,
            port=place.port,
            health_path=self.health_path,
            served_name=place.served_name,
        )

    def asks_to_render(self, policy: Policy) -> bool:
        """Whether its workers must render prompts for it."""
        return policy in self.rendered

    def _policy(self, config: RouterConfig) -> str:
        if config.policy in self.policies:
            return self.policies[config.policy]
        others = [name for name, router in ROUTERS.items() if config.policy in router.policies]
        raise UsageError(
            f"router.policy: {self.name} has no {config.policy} (it has "
            f"{', '.join(self.policies)}); {' and '.join(others)} have it"
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a router listens, and what is behind it."""

    host: str
    port: int
    metrics_port: int
    served_name: str
    alive_path: str
    """By which the router asks whether a worker is alive."""
    metrics_host: str = "127.0.0.1"


def by_urls(workers: Sequence[str]) -> list[str]:
    """The flags of workers that are known beforehand."""
    return ["--worker-urls", *workers]


_COMMON: dict[Policy, str] = {
    "round_robin": "round_robin",
    "random": "random",
    "power_of_two": "power_of_two",
    "cache_aware": "cache_aware",
}
ROUTERS = {
    "vllm-router": Router(
        "vllm-router",
        ("vllm-router",),
        {**_COMMON, "consistent_hash": "consistent_hash"},
        key_header="X-Session-ID",
        rendered=frozenset({"cache_aware"}),
        undecided_metric=('vllm_router_prefix_routing_decisions_total{outcome="missing_tokens"}'),
        workers_by_id=False,
    ),
    "sglang-router": Router(
        "sglang-router",
        ("sglang-router", "launch"),
        _COMMON,
        key_header="X-SMG-Routing-Key",
        passes_salts=False,  # 0.3.2 writes the body anew, with the fields that it knows
    ),
    "smg": Router(
        "smg",
        ("smg", "launch"),
        {**_COMMON, "consistent_hash": "consistent_hashing", "prefix_hash": "prefix_hash"},
        key_header="X-SMG-Routing-Key",
    ),
}


def worker_args(config: RouterConfig | None, engine: Engine) -> tuple[str, ...]:
    """What the engines behind a router need to be started with."""
    if config is None or not ROUTERS[config.name].asks_to_render(config.policy):
        return ()
    if engine.rendering_args is None:
        raise UsageError(
            f"router: {config.name}'s {config.policy} asks its workers to render prompts, which "
            f"{engine.title} does not; use sglang-router or smg in front of it"
        )
    return tuple(engine.rendering_args)


INSIDE = Path("/opt/routers")
"""In the toolkit's image: a folder for each router's environment (Dockerfile)."""


def in_container(
    router: Router, config: RouterConfig, finding: Sequence[str], place: Place
) -> list[str]:
    """The command in the toolkit's image; `finding` as in its plan."""
    return list(router.plan(config, INSIDE / config.recipe / "bin", finding, place).argv)
