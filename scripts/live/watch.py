"""`aot watch`: beside a running server, without a request to it: its pages and its KV events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aot.configs.kernel.errors import EndpointError, UsageError
from aot.scripts.live.facts import Events, Parting, Seen
from aot.scripts.live.words import Words
from aot.scripts.prompts import warming
from aot.serving.cache.residency import Residency
from aot.serving.client.detect import detect
from aot.serving.client.endpoint import Endpoint
from aot.serving.client.kv_events import Batch, Subscription
from aot.serving.client.scraper import sample
from aot.serving.engines.engine import Engine, Page
from aot.serving.live.branches import Branches
from aot.serving.live.places import MOSTLY, Place, Places
from aot.serving.metrics.counters import CacheCounters, Metrics
from aot.serving.metrics.resets import reset
from aot.workloads.prompts.compiled import Compiled

SCRAPE_S = 2.0
BEFORE_TOKENS = 24
MOST_SHOWN = 5
ENOUGH_TOKENS = 2_000
"""Computed by the server, until silence of its events means something."""


@dataclass(slots=True)
class Live:
    """One server, followed from now on."""

    endpoint: Endpoint
    engine: Engine
    compiled: Sequence[Compiled] = ()
    words: Words | None = None
    """None: no text is shown."""
    branches: Branches = field(default_factory=lambda: Branches(time.monotonic))
    residency: Residency = field(default_factory=Residency)
    heard: int = 0
    """Messages of the events' endpoint."""
    _places: Places | None = None
    _began_s: float = field(default_factory=time.monotonic)
    _first: Metrics = field(default_factory=dict)
    _last: Metrics = field(default_factory=dict)
    _before: Metrics = field(default_factory=dict)
    _info: dict[str, Any] = field(default_factory=dict)
    _restarted: bool = False

    @staticmethod
    def of(endpoint: Endpoint, compiled: Sequence[Compiled], words: Words | None) -> Live:
        """Begin now. UsageError for a server without a page of counters."""
        engine = detect(endpoint)
        made = Live(endpoint, engine, compiled, words)
        made._info = endpoint.info(engine.info_path)
        made._first = made._before = made._last = endpoint.metrics()
        if not made._first:
            why = engine.remedies.get("no-metrics", "is this the engine itself?")
            raise UsageError(f"{endpoint.base_url}: has no page of counters (/metrics): {why}")
        made._places = Places(made.branches.above, made.branches.below)
        return made

    def remember(self, history: Sequence[Batch]) -> None:
        """What the server still knows of before: so that beginnings are known."""
        self.residency.remember(history)
        for batch in history:
            self.branches.take(batch)
        self._analyse(everything=True)
        self.branches.stored_tokens = self.branches.again_tokens = 0
        if self._places:  # what was lost before now is not of this watch
            self._places.begin()

    def listen(self, events: Subscription, for_s: float) -> None:
        """Take what comes for so long."""
        until = time.monotonic() + for_s
        while (left := until - time.monotonic()) > 0:
            if events.was_lost():
                self.residency.forget()
            for batch in events.poll(min(left, 0.2)):
                self.heard += 1
                self.residency.take(batch)
                self.branches.take(batch)
            self._analyse()

    def scrape(self) -> None:
        """Read the counters. A page that cannot be had now is left out."""
        try:
            page = self.endpoint.metrics()
        except EndpointError:
            return
        if not page:
            return
        if reset(self._last, page):
            self._restarted, self._first = True, page
        self._before, self._last = self._last, page

    def seen(self, with_events: bool, last: bool = False) -> Seen:
        """All that is known now. `last`: what still grows counts as it is."""
        self._analyse(everything=last)
        total = self._between(self._first)
        lately = self._between(self._before)
        return Seen(
            url=self.endpoint.base_url,
            model=self.endpoint.model,
            engine=self.engine.title,
            version=self.engine.version(Page(self._last, self._info)),
            watched_s=round(time.monotonic() - self._began_s, 1),
            prompt_tokens=total.prompt_tokens,
            hit_tokens=total.hit_tokens,
            last_hit_ratio=lately.hit_ratio,
            hit_ratio_since_start=self.engine.counters(self._last).hit_ratio,
            gauges=sample(self._last, self.engine),
            restarted=self._restarted,
            events=self._events(total) if with_events else None,
            resident=self._resident() if with_events else {},
        )

    def _between(self, before: Metrics) -> CacheCounters:
        return self.engine.counters(self._last) - self.engine.counters(before)

    def _analyse(self, everything: bool = False) -> None:
        assert self._places is not None
        self._places.block_tokens = self.branches.block_tokens or 1
        for branch in self.branches.closed(everything):
            self._places.add(branch)

    def _events(self, counted: CacheCounters) -> Events:
        assert self._places is not None
        computed = (counted.prompt_tokens or 0) - (counted.hit_tokens or 0)
        b = self.branches
        return Events(
            b.stored_tokens, b.again_tokens, b.resident_blocks * (b.block_tokens or 0),
            b.lost_messages, b.restarts, b.unrooted,
            silent=self.heard == 0 and computed >= ENOUGH_TOKENS,
            partings=tuple(self._parting(p) for p in self._places.found()[:MOST_SHOWN]),
        )  # fmt: skip

    def _parting(self, place: Place) -> Parting:
        kind = _kind(place)
        if self.words is None:
            return Parting(place.at, place.times, place.tokens, kind)
        before = [*self.branches.path(place.parent, BEFORE_TOKENS), *place.opening]
        return self.words.of(place, kind, before[-BEFORE_TOKENS:])

    def _resident(self) -> dict[str, tuple[int, int]]:
        found = ((c.id, self.residency.of(warming.chain(c))) for c in self.compiled)
        return {name: (r.leading, r.blocks) for name, r in found}


def _kind(place: Place) -> str:
    if place.apart > MOSTLY * place.times:
        return "another salt or adapter"
    return "another order" if place.reordered > MOSTLY * place.times else "another text"


def follow(
    live: Live,
    events: Subscription | None,
    every_s: float,
    seconds: float | None,
    shows: Sequence[Callable[[Seen], None]],
) -> None:
    """Look and listen until `seconds` are over (None: without an end); `shows` are called every
    `every_s`. Ends with a last look."""
    began = shown = scraped = time.monotonic()
    while seconds is None or time.monotonic() - began < seconds:
        _wait(live, events, min(0.5, every_s))
        now = time.monotonic()
        if now - scraped >= min(SCRAPE_S, every_s):
            live.scrape()
            scraped = now
        if now - shown >= every_s:
            seen = live.seen(events is not None)
            for show in shows:
                show(seen)
            shown = now
    live.scrape()


def _wait(live: Live, events: Subscription | None, seconds: float) -> None:
    if events is None:
        time.sleep(seconds)
    else:
        live.listen(events, seconds)
