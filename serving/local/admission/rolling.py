"""Replicas started anew one after the other, while the others serve: each is taken out of the
router, drained, ended, started, made ready, and put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aot.configs.kernel.errors import UsageError
from aot.serving.client.endpoint import Endpoint
from aot.serving.client.scraper import sample
from aot.serving.client.workers import Workers
from aot.serving.engines.engine import Engine
from aot.serving.engines.launch_plan import LaunchPlan
from aot.serving.local.deployment import Deployment
from aot.serving.local.server import Launch, Server, started

POLL_S = 0.5
QUIET_LOOKS = 3
"""So often nothing runs and nothing waits before a replica counts as drained: what the router had
just sent may not have been counted yet."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How each replica is started anew. `plan`: its command, by number and port. `ready` gets its
    base URL, and raises where it must not be given traffic."""

    engine: Engine
    plan: Callable[[int, int], LaunchPlan]
    ready: Callable[[str], None]
    start_timeout_s: float
    drain_s: float
    report: Callable[[str], None]


def roll(up: Deployment, rollout: Rollout) -> None:
    """All replicas, those first that an earlier rollout left out. Ends with the first that does not
    come back: it stays out, the others serve on as they were, and the error says why.

    Raises UsageError where there is nothing that could serve meanwhile.
    """
    if up.router is None or up.plans.router is None or len(up.replicas) < 2:
        raise UsageError(
            "a rollout needs 'replicas: 2' or more, and a router: nothing else would serve while "
            "one is started anew"
        )
    workers = Workers(up.router.plan.base_url, up.plans.router[0].workers_by_id)
    for number in sorted(range(len(up.replicas)), key=lambda n: n not in up.out):
        _renew(up, number, workers, rollout)


def _renew(up: Deployment, number: int, workers: Workers, rollout: Rollout) -> None:
    old = up.replicas[number]
    name = f"replica {number} ({old.plan.base_url})"
    if number not in up.out:
        rollout.report(f"{name}: out of the router, draining")
        workers.remove(old.plan.base_url)
        up.out.add(number)
        if words := _drained(old, rollout):
            rollout.report(f"{name}: {words}")
    old.end()
    if old.log.exists():
        old.log.replace(old.log.with_suffix(f".before{old.log.suffix}"))
    rollout.report(f"{name}: starting anew")
    launch = Launch(rollout.plan(number, old.plan.port), rollout.engine, old.log)
    new = started(launch, rollout.start_timeout_s, lambda _: None)
    up.replicas[number] = new  # whatever comes: it is ended with the others
    rollout.report(f"{name}: healthy after {new.started_s:.0f} s")
    rollout.ready(new.plan.base_url)
    workers.add(new.plan.base_url)
    up.out.discard(number)
    rollout.report(f"{name}: back in the router")


def _drained(server: Server, rollout: Rollout) -> str | None:
    """Wait until it has no requests any more; what is to be said where that was not seen in
    time."""
    endpoint = Endpoint(server.plan.base_url, "")
    until, quiet, left = time.monotonic() + rollout.drain_s, 0, "it does not say what runs"
    while quiet < QUIET_LOOKS and server.alive:
        if time.monotonic() > until:
            return f"{left} after {rollout.drain_s:g} s: ended all the same"
        seen = sample(endpoint.metrics(), rollout.engine)
        quiet = quiet + 1 if seen and not _under_way(seen) else 0
        left = f"{_under_way(seen):g} requests still ran" if seen else left
        time.sleep(POLL_S)
    return None


def _under_way(seen: Mapping[str, float]) -> float:
    return seen.get("running", 0.0) + seen.get("waiting", 0.0)
