"""What clients see as one server: an engine, or several with a router in front of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aot.configs.kernel.files import held
from aot.serving.engines.engine import Engine
from aot.serving.engines.launch_plan import LaunchPlan
from aot.serving.local import store_contents, store_disk
from aot.serving.local.server import Launch, Server, page, running
from aot.serving.local.store_contents import Filling
from aot.serving.topology.routers import Router
from aot.serving.topology.stores import LMCache

POLL_S = 0.5
ROUTER_TIMEOUT_S = 60.0


STORE_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A KV store: where engines find it, what their environment needs for it, and its own plan
    where it is to be started."""

    address: str
    env: Mapping[str, str]
    started: tuple[LMCache, LaunchPlan] | None = None
    disk: Path | None = None
    """Its folder, made where it is not there."""
    filling: Filling | None = None
    """What it is filled with by these engines."""
    notes: tuple[str, ...] = ()
    """What is to be said of what it was filled with before."""


@dataclass(frozen=True, slots=True)
class Plans:
    """Exactly what will be started: the engines, and the router with its plan, if there is one."""

    engines: tuple[LaunchPlan, ...]
    router: tuple[Router, LaunchPlan] | None = None
    store: Stored | None = None

    @property
    def front(self) -> LaunchPlan:
        """What clients talk to."""
        return self.router[1] if self.router else self.engines[0]

    def as_shell(self) -> str:
        """The commands as a person would paste them, one a line."""
        store = [self.store.started[1]] if self.store and self.store.started else []
        router = [self.front] if self.router else []
        return "\n".join(plan.as_shell() for plan in (*store, *self.engines, *router))


@dataclass(frozen=True, slots=True)
class Deployment:
    """Running engines and their router. `started_s`: from launch until all were healthy."""

    plans: Plans
    replicas: list[Server]
    """A rollout puts others in their places."""
    router: Server | None
    started_s: float
    store: Server | None = None
    notes: Sequence[str] = ()
    """What is to be said of what the store found on its disk."""
    out: set[int] = field(default_factory=set)
    """Replicas that the router knows nothing of: a rollout did not get them back."""

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
    def store_state(self) -> dict[str, bool | int] | None:
        """Whether the store answers, and what it could not keep; None where none was started
        here."""
        if self.store is None:
            return None
        return {"alive": self.store.answers, "lost_writes": self.store_lost_writes}

    @property
    def store_page(self) -> str | None:
        """The store's own /metrics; None where none was started here, or it does not answer."""
        return page(f"{self.store.plan.base_url}/metrics") if self.store else None

    @property
    def replica_urls(self) -> tuple[str, ...]:
        """Where each engine answers; empty where there is no router."""
        return tuple(s.plan.base_url for s in self.replicas) if self.router else ()

    @property
    def store_lost_writes(self) -> int:
        """Chunks that its disk did not take so far: nobody finds them after a restart."""
        if self.store is None or self.plans.store is None or self.plans.store.started is None:
            return 0
        program, _ = self.plans.store.started
        return program.lost_writes(self.store.log)[0]

    def wait(
        self, report: Callable[[str], None], meanwhile: Callable[[], None] = lambda: None
    ) -> Server:
        """Block until an engine or the router ends by itself; which one. Without its store an
        engine goes on: that is said, once. `meanwhile` is called again and again."""
        watch = _StoreWatch(self, report)
        while True:
            serving = [s for n, s in enumerate(self.replicas) if n not in self.out]
            for server in [*serving, *([self.router] if self.router else [])]:
                if not server.alive:
                    return server
            watch.look()
            meanwhile()
            time.sleep(POLL_S)


@dataclass(slots=True)
class _StoreWatch:
    """Says, once each, that the store ended, and that its disk takes no more."""

    up: Deployment
    report: Callable[[str], None]
    ended: bool = False
    unwritten: int = 0
    read_to: int = 0

    def look(self) -> None:
        store, planned = self.up.store, self.up.plans.store
        if store is None or planned is None or planned.started is None:
            return
        if not store.alive and not self.ended:
            self.report(f"the store ended by itself: served on without it, see {store.log}")
            self.ended = True
        more, self.read_to = planned.started[0].lost_writes(store.log, self.read_to)
        if more:
            self.unwritten += more
            self.report(
                f"the store's disk did not take {self.unwritten} chunks so far (is it full?): they "
                f"are served from memory, and gone after a restart; see {store.log}"
            )


@contextmanager
def deployed(
    plans: Plans,
    engine: Engine,
    log: Path,
    timeout_s: float,
    report: Callable[[str], None],
    ready: Callable[[str], None] = lambda _: None,
) -> Iterator[Deployment]:
    """All of `plans`, healthy on entry and gone on exit; the store first, then engines, then the
    router. `log` is that of what clients talk to; those of replicas have their number in the name.
    `ready` gets the base URL of each engine, and raises where it must not be given traffic.

    Raises LaunchError as `aot.serving.local.server.running` does.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        store, notes = None, []
        if plans.store and plans.store.started:
            # First: an engine that finds none waits for it for minutes.
            program, plan = plans.store.started
            if disk := plans.store.disk:
                disk.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(disk))
                notes = [*plans.store.notes, *_checked(disk, plan, report)]
                if filling := plans.store.filling:
                    known = store_contents.read(disk)
                    store_contents.write(disk, known.with_model(filling))
                stack.callback(_seal, disk, report)  # when the store has ended
            launch = Launch(plan, program, log.with_stem(f"{log.stem}-store"))
            (store,) = stack.enter_context(running([launch], STORE_TIMEOUT_S, report))
        logs = _logs(log, plans)
        engines = [Launch(p, engine, file) for p, file in zip(plans.engines, logs, strict=True)]
        servers = stack.enter_context(running(engines, timeout_s, report))
        for server in servers:
            ready(server.plan.base_url)
        router = None
        if plans.router:
            front = Launch(plans.router[1], plans.router[0], log)
            (router,) = stack.enter_context(running([front], ROUTER_TIMEOUT_S, report))
        yield Deployment(plans, servers, router, time.monotonic() - started, store, notes)


def _checked(disk: Path, plan: LaunchPlan, report: Callable[[str], None]) -> list[str]:
    """Put aside what is not as it was written; what is to be said of it."""
    report(f"{plan.served_name}: checking what is on its disk")
    checked = store_disk.check(disk)
    if not checked.unusable:
        return []
    aside = store_disk.put_aside(disk, checked.unusable)
    total = len(checked.whole) + len(checked.unusable)
    return [
        f"store: {len(checked.unusable)} of {total} chunks in {disk} are not as they were written "
        f"({len(checked.damaged)} damaged, {len(checked.unknown)} of a store that was cut off): "
        f"put aside in {aside}, and served without"
    ]


def _seal(disk: Path, report: Callable[[str], None]) -> None:
    try:
        store_disk.seal(disk)
    except OSError as error:  # a full disk ends nothing that was measured
        report(
            f"store: the sums of its chunks could not be written ({error}): those of this time "
            "will not be trusted"
        )


def _logs(log: Path, plans: Plans) -> Sequence[Path]:
    if plans.router is None:
        return [log]
    return [log.with_stem(f"{log.stem}-{n}") for n in range(len(plans.engines))]
