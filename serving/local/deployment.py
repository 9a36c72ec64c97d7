"""What clients see as one server: an engine, or several with a router in front of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aot.serving.engines.engine import Engine
from aot.serving.engines.launch_plan import LaunchPlan
from aot.serving.local.server import Launch, Server, running
from aot.serving.topology.routers import Router

POLL_S = 0.5
ROUTER_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Plans:
    """Exactly what will be started: the engines, and the router with its plan, if there is one."""

    engines: tuple[LaunchPlan, ...]
    router: tuple[Router, LaunchPlan] | None = None

    @property
    def front(self) -> LaunchPlan:
        """What clients talk to."""
        return self.router[1] if self.router else self.engines[0]

    def as_shell(self) -> str:
        """The commands as a person would paste them, one a line."""
        lines = [
            plan.as_shell() for plan in (*self.engines, *([self.front] if self.router else []))
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Deployment:
    """Running engines and their router. `started_s`: from launch until all were healthy."""

    plans: Plans
    replicas: tuple[Server, ...]
    router: Server | None
    started_s: float

    @property
    def plan(self) -> LaunchPlan:
        return self.plans.front

    @property
    def alive(self) -> bool:
        """Whether anything can still be answered: the router, and one replica at least."""
        front = self.router is None or self.router.alive
        return front and any(server.alive for server in self.replicas)

    @property
    def replicas_alive(self) -> list[bool]:
        return [server.answers for server in self.replicas]

    @property
    def replica_urls(self) -> tuple[str, ...]:
        """Where each engine answers; empty where there is no router."""
        return tuple(s.plan.base_url for s in self.replicas) if self.router else ()

    def wait(self) -> Server:
        """Block until one of the processes ends by itself; which one."""
        everything = [*self.replicas, *([self.router] if self.router else [])]
        while True:
            for server in everything:
                if not server.alive:
                    return server
            time.sleep(POLL_S)


@contextmanager
def deployed(
    plans: Plans, engine: Engine, log: Path, timeout_s: float, report: Callable[[str], None]
) -> Iterator[Deployment]:
    """All of `plans`, healthy on entry and gone on exit; engines first, then the router. `log` is
    that of what clients talk to; those of replicas have their number in the name.

    Raises LaunchError as `aot.serving.local.server.running` does.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        logs = _logs(log, plans)
        engines = [Launch(p, engine, file) for p, file in zip(plans.engines, logs, strict=True)]
        servers = stack.enter_context(running(engines, timeout_s, report))
        router = None
        if plans.router:
            front = Launch(plans.router[1], plans.router[0], log)
            (router,) = stack.enter_context(running([front], ROUTER_TIMEOUT_S, report))
        yield Deployment(plans, tuple(servers), router, time.monotonic() - started)


def _logs(log: Path, plans: Plans) -> Sequence[Path]:
    if plans.router is None:
        return [log]
    return [log.with_stem(f"{log.stem}-{n}") for n in range(len(plans.engines))]
