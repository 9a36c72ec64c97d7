"""Stay beside a server: keep prefixes warm. Ctrl-C ends cleanly."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from itertools import count

from aot.configs.kernel.errors import EndpointError
from aot.configs.schema.server import replay_endpoint
from aot.scripts.prompts import warming
from aot.scripts.prompts.warming import Place
from aot.scripts.terminal import note, say
from aot.serving.cache.arrivals import Arrivals
from aot.serving.cache.residency import Residency
from aot.serving.client import kv_events
from aot.workloads.prompts.compiled import Compiled

POLL_S = 0.5
LINE_EVERY_S = 10.0
RETRY_S = 5.0


def by_touch(prompts: Sequence[Compiled], places: Sequence[Place], every_s: float | None) -> None:
    """Touch every prefix on every server, before it would be evicted; never returns by itself."""
    seen = {w.endpoint.base_url: (time.monotonic(), warming.computed_tokens(w)) for w in places}
    wait_s = every_s or warming.LONGEST_IDLE_S / 4
    for number in count(1):
        time.sleep(wait_s)
        waits = []
        for where in places:
            then, before = seen[where.endpoint.base_url]
            try:
                after = warming.computed_tokens(where)
            except EndpointError:
                after = None
            now = time.monotonic()
            waits.append(every_s or warming.idle_s(before, after, now - then, where))
            _line(
                warming.watch_blind(prompts, where, waits[-1], number)
                + _came_in(before, after, where)
            )
            seen[where.endpoint.base_url] = (now, after)
        wait_s = min(waits)


def _came_in(before: float | None, after: float | None, where: Place) -> str:
    """What was computed meanwhile, beside what the cache holds: what displaces a prefix."""
    if before is None or after is None or not where.capacity_tokens:
        return ""
    return f"; {after - before:,.0f} tokens came in, the cache holds {where.capacity_tokens:,}"


def by_events(prompts: Sequence[Compiled], where: Place, endpoint: str) -> None:
    """Warm exactly what is missing, as soon as the server says so; never returns by itself."""
    residency = Residency()
    arrivals = Arrivals()
    filled = evicted = 0
    spoken = 0.0
    with kv_events.subscribed(endpoint) as events:
        _catch_up(residency, replay_endpoint(endpoint))
        missing = warming.follow(prompts, residency, events, 0, arrivals)
        while True:
            if missing and filled >= len(prompts):
                for prompt in missing:
                    _line(warming.displaced(prompt, prompts, arrivals, where))
                arrivals.reset()
            for prompt in warming.in_order(missing):
                try:
                    warming.fill(prompt, where)
                except EndpointError as error:
                    # It is starting anew, or busy: what is missing now is missing then, too.
                    _line(f"{error}; trying again in {RETRY_S:g} s")
                    time.sleep(RETRY_S)
                    break
                residency.assume(warming.chain(prompt))
                evicted += filled >= len(prompts)
                filled += 1
            if missing or time.monotonic() - spoken > LINE_EVERY_S:
                state = "" if residency.certain else ", state not certain yet"
                still = warming.follow(prompts, residency, events, POLL_S, arrivals)
                complete = len(prompts) - len(still)
                _line(
                    f"{where.endpoint.base_url}: {complete} of {len(prompts)} resident, "
                    f"{filled} filled, {evicted} of them after an eviction{state}"
                )
                spoken = time.monotonic()
            missing = warming.follow(prompts, residency, events, POLL_S, arrivals)


def _catch_up(residency: Residency, endpoint: str) -> None:
    try:
        residency.remember(kv_events.replay(endpoint))
    except EndpointError as error:
        note(f"{error}; only what happens from now on is known")


def _line(text: str) -> None:
    say(f"{_now()} {text}")


def _now() -> str:
    return datetime.now().strftime("%H:%M:%S")
