"""What a running server says and shows of its prefix cache, without and with a few requests."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from aot.configs.kernel.errors import EndpointError
from aot.serving.cache.proof import canary
from aot.serving.client.chat import Usage, shown_zeros
from aot.serving.client.detect import detect
from aot.serving.client.endpoint import Endpoint
from aot.serving.client.scraper import EVERY_S, sample
from aot.serving.engines.engine import Engine, Page
from aot.serving.engines.table import ENGINES, OPENAI
from aot.serving.metrics.counters import TIERS, CacheCounters, CacheFacts, Metrics, total
from aot.serving.metrics.resets import reset

REPEATS = 6
"""Times that one prompt is sent: as many replicas in turn are told apart from no cache at all."""
RANKS = ("engine", "dp_rank")
"""Labels by which data-parallel engines on one page are told apart."""
MOSTLY = 0.5
USUAL_BLOCK = 128
"""The largest that an engine has unless told."""


@dataclass(frozen=True, slots=True)
class Repeats:
    """One prompt that nobody else sends, sent several times: what the server said each time."""

    prompt_tokens: int | None
    cached_tokens: tuple[int | None, ...]

    @property
    def reported(self) -> bool:
        """Whether any answer said how much of it was cached."""
        return any(c is not None for c in self.cached_tokens)

    @property
    def found(self) -> int:
        """Sendings that found it: most of it, since what all prompts begin with (a chat template's
        own words) is found anyhow where tokens are matched one by one."""
        least = MOSTLY * (self.prompt_tokens or 0)
        return sum(c is not None and c > least for c in self.cached_tokens)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """None: the server does not say. Counts `since` its start, and of the `window_s` seconds in
    which it was watched."""

    url: str
    model: str
    engine: str
    version: str | None
    has_metrics: bool
    cache: CacheFacts
    context_tokens: int | None
    since: CacheCounters
    requests: float | None
    window_s: float
    window: CacheCounters | None
    """None, too, where it was started anew meanwhile."""
    gauges: dict[str, float]
    """The highest that was seen of each; counters of them as they are at the end."""
    looks: int
    """Times that the page was read in the window."""
    looks_waiting: int
    """Of these, with requests that waited."""
    engines: int
    """Engines with caches of their own that the page has counts of."""
    repeats: Repeats | None
    """None: no request was sent."""
    dated: str | None
    """Today's date, where the chat template writes it into a prompt."""
    settings: Mapping[str, str]
    """What of this engine mends which fault (Engine.remedies)."""

    @property
    def mean_prompt_tokens(self) -> float | None:
        if not self.requests or self.since.prompt_tokens is None:
            return None
        return self.since.prompt_tokens / self.requests

    @property
    def lives_s(self) -> float | None:
        """For how long what is computed can stay, at the rate of the window: the capacity over what
        came in. None where nothing did, or that is not counted."""
        w, capacity = self.window, self.cache.capacity_tokens
        if w is None or capacity is None or w.prompt_tokens is None or w.hit_tokens is None:
            return None
        computed = w.prompt_tokens - w.hit_tokens + (w.output_tokens or 0)
        return capacity * self.window_s / computed if computed > 0 else None

    @property
    def tiers(self) -> dict[str, float]:
        """Tokens found in each tier since the start, of those that are counted."""
        counts = {tier: getattr(self.since, f"{tier}_tokens") for tier in TIERS}
        return {tier: count for tier, count in counts.items() if count}

    def as_json(self) -> dict[str, Any]:
        made = asdict(replace(self, settings={}))
        del made["settings"]
        made["hit_ratio"] = self.since.hit_ratio
        made["window_hit_ratio"] = self.window.hit_ratio if self.window else None
        made["mean_prompt_tokens"], made["lives_s"] = self.mean_prompt_tokens, self.lives_s
        return made


def look(
    endpoint: Endpoint,
    window_s: float,
    send: bool,
    report: Callable[[str], None] = lambda _: None,
) -> ServerFacts:
    """Read its pages for `window_s` seconds; then, with `send`, ask it one small prompt a few
    times. EndpointError with the server's own words where it does not answer."""
    engine = detect(endpoint)
    title, settings, counted = engine.title, engine.remedies, engine is not OPENAI
    if not counted and (hidden := _by_owner(endpoint)):
        title, settings = hidden.title, hidden.remedies
    page = endpoint.page(engine)
    before, began = page.metrics, time.monotonic()
    seen = [sample(before, engine)] if before else []
    while before and time.monotonic() - began < window_s:
        report(f"watching {endpoint.base_url} for {window_s:g} s")
        time.sleep(min(EVERY_S, max(0.0, window_s - (time.monotonic() - began))))
        seen.append(sample(endpoint.metrics(), engine))
    after = endpoint.metrics() if before else {}
    watched_s = time.monotonic() - began
    report(f"asking {endpoint.base_url} one prompt {REPEATS} times")
    facts = engine.cache_facts(page)
    return ServerFacts(
        url=endpoint.base_url,
        model=endpoint.model,
        engine=title,
        version=engine.version(page),
        has_metrics=bool(before) and (counted or not settings),
        cache=facts,
        context_tokens=endpoint.context_tokens(),
        since=engine.counters(after),
        requests=total(after, engine.requests_metric) if engine.requests_metric else None,
        window_s=round(watched_s, 1),
        window=_between(engine, before, after),
        gauges={name: max(s[name] for s in seen if name in s) for s in seen for name in s},
        looks=len(seen),
        looks_waiting=sum(s.get("waiting", 0) > 0 for s in seen),
        engines=_engines(engine, page),
        repeats=_repeated(endpoint, facts) if send else None,
        dated=_dated(endpoint) if send else None,
        settings=settings,
    )


def _by_owner(endpoint: Endpoint) -> Engine | None:
    """Whose models /v1/models says they are, where the pages do not tell."""
    owners = {row.get("owned_by") for row in endpoint.rows()}
    return next((e for name, e in ENGINES.items() if e is not OPENAI and name in owners), None)


def _between(engine: Engine, before: Metrics, after: Metrics) -> CacheCounters | None:
    if not before or not after or reset(before, after):
        return None
    return engine.counters(after) - engine.counters(before)


def _engines(engine: Engine, page: Page) -> int:
    """By the label that data-parallel ranks have."""
    names = (n for text in engine.gauges.values() for n in text.split("|"))
    samples = [s for n in names for s in page.metrics.get(n, ())]
    ranks = [{s.labels[name] for s in samples if name in s.labels} for name in RANKS]
    return max(1, *map(len, ranks))


def _repeated(endpoint: Endpoint, facts: CacheFacts) -> Repeats:
    messages = canary(secrets.token_hex(8), facts.block_tokens or USUAL_BLOCK)
    usages: list[Usage] = []
    with endpoint.connection() as chat:
        for _ in range(REPEATS):
            usages.append(chat.ask(messages, 1).usage)
    return Repeats(usages[0].prompt_tokens, _cached(usages))


def _cached(usages: Sequence[Usage]) -> tuple[int | None, ...]:
    return tuple(u.cached_tokens for u in shown_zeros(usages))


def _dated(endpoint: Endpoint) -> str | None:
    """By the server's own rendering, where it renders for others."""
    try:
        ids = endpoint.tokenize([{"role": "user", "content": "A"}])
        text = endpoint.detokenize(ids) if ids else None
    except EndpointError:
        return None
    today = datetime.now()
    forms = (
        today.strftime(f) for f in ("%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%B %d, %Y", "%d/%m/%Y")
    )
    return next((form for form in forms if text and form in text), None)
