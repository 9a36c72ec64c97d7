"""A server that is watched: on a terminal, as lines, and as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Gauge, start_http_server

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.ports import address
from aot.scripts.live.facts import Events, Parting, Seen
from aot.scripts.terminal import out, say

Show = Callable[[Seen], None]


def lines(seen: Seen) -> Iterator[str]:
    """What is known, a line each."""
    version = f" {seen.version}" if seen.version else ""
    yield f"{seen.url}: {seen.engine}{version}, {seen.model}, watched for {seen.watched_s:.0f} s"
    yield f"  {_ratios(seen)}"
    known = [f"{name} {value:g}" for name, value in seen.gauges.items()]
    if known:
        yield f"  {', '.join(known)}"
    if seen.restarted:
        yield "  its counters began anew meanwhile: counts are since then"
    for name, (leading, blocks) in seen.resident.items():
        words = "resident" if leading == blocks else "partly" if leading else "not there"
        yield f"  {name}: {leading} of {blocks} blocks, {words}"
    if seen.events:
        yield from _events(seen.events)


def _ratios(seen: Seen) -> str:
    if not seen.prompt_tokens:
        before = seen.hit_ratio_since_start
        earlier = "" if before is None else f" (since its start: {before:.1%} found)"
        return f"no prompt was computed meanwhile{earlier}"
    words = [f"{seen.prompt_tokens:,.0f} prompt tokens"]
    if seen.hit_ratio is not None:
        words.append(f"{seen.hit_ratio:.1%} found")
    if seen.last_hit_ratio is not None:
        words.append(f"{seen.last_hit_ratio:.1%} just now")
    if seen.reachable is not None:
        words.append(f"{seen.reachable:.1%} within reach")
    return ", ".join(words)


def _events(events: Events) -> Iterator[str]:
    if events.silent:
        yield (
            "  no KV event came, although the server computed prompts: does it publish them at "
            "that address (vLLM and SGLang: --kv-events-config)?"
        )
        return
    yield (
        f"  stored {events.stored_tokens:,} tokens, {events.again_tokens:,} of them again after an "
        f"eviction; {events.resident_tokens:,} there"
    )
    if events.lost_messages:
        yield f"  {events.lost_messages} messages were lost: what they told is not in this"
    if events.restarts:
        yield f"  the server was started anew {events.restarts} time(s)"
    if events.unrooted:
        yield f"  of {events.unrooted} prompts the beginning was not seen: they are in no place"
    for number, parting in enumerate(events.partings, 1):
        yield from _parting(number, parting)
    if not events.partings and events.stored_tokens:
        yield "  no place at which prompts part although the same follows"


def _parting(number: int, p: Parting) -> Iterator[str]:
    rule = f" ({p.rule})" if p.rule else ""
    again = f"{p.tokens_each:,.0f} tokens stored again each time"
    yield f"  {number}. at token {p.at}: {p.kind}, {p.times} times, {again}{rule}"
    if p.now is not None:
        yield f"     ...{p.before_it!r} then {p.now!r} (before: {p.earlier!r})"
    if p.fix:
        yield f"     do: {p.fix}"


@contextmanager
def on_terminal() -> Iterator[Show]:
    """One view that changes where there is a terminal, else the lines again and again."""
    if not out().is_terminal:

        def again(seen: Seen) -> None:
            for line in lines(seen):
                say(line)

        yield again
        return
    from rich.live import Live
    from rich.text import Text

    with Live(console=out(), auto_refresh=False, transient=True) as view:
        yield lambda seen: view.update(Text("\n".join(lines(seen))), refresh=True)


def exported(listen: str) -> Show:
    """Metrics on HOST:PORT, as of the last look. UsageError where nothing can listen there."""
    host, port = address(listen, "--listen")
    registry = CollectorRegistry()
    gauges = {
        name: Gauge(f"aot_watch_{name}", words, registry=registry) for name, words in GAUGES.items()
    }
    place = Gauge(
        "aot_watch_parting_tokens", "Tokens stored again at a place", ["at"], registry=registry
    )
    resident = Gauge(
        "aot_watch_resident_blocks", "Leading blocks there", ["prompt"], registry=registry
    )
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UsageError(f"--listen {listen}: {error.strerror or error}") from None

    def show(seen: Seen) -> None:
        for name, value in _values(seen).items():
            gauges[name].set(float("nan") if value is None else value)
        place.clear()
        for parting in seen.events.partings if seen.events else ():
            place.labels(at=str(parting.at)).set(parting.tokens)
        for prompt, (leading, _) in seen.resident.items():
            resident.labels(prompt=prompt).set(leading)

    return show


GAUGES = {
    "hit_ratio": "Prompt tokens found in the cache, since the watch began",
    "last_hit_ratio": "The same between the last two looks",
    "reachable_hit_ratio": "The same, had no prompt parted and nothing been evicted",
    "prompt_tokens": "Prompt tokens since the watch began",
    "stored_again_tokens": "Tokens stored again after an eviction",
    "lost_messages": "KV events that were lost",
}


def _values(seen: Seen) -> dict[str, float | None]:
    return {
        "hit_ratio": seen.hit_ratio,
        "last_hit_ratio": seen.last_hit_ratio,
        "reachable_hit_ratio": seen.reachable,
        "prompt_tokens": seen.prompt_tokens,
        "stored_again_tokens": seen.events.again_tokens if seen.events else None,
        "lost_messages": seen.events.lost_messages if seen.events else None,
    }
