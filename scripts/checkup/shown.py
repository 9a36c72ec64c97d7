"""The answer on one screen."""

from __future__ import annotations

from collections.abc import Iterator

from aot.scripts.checkup.answer import CLOSE, MOST_FLAWS, Answer
from aot.scripts.checkup.of_log import LogAnswer
from aot.scripts.prompts.lint_output import money_per_1000
from aot.scripts.terminal import say, table
from aot.serving.health.facts import ServerFacts


def show(answer: Answer) -> None:
    """All of it."""
    if answer.server:
        say(_title(answer.server), "bold")
        for line in _server(answer.server):
            say(f"  {line}")
    if answer.log:
        say(_log_title(answer.log), "bold")
    _head("Is it working?")
    for line in working(answer):
        say(f"  {line}")
    _head("What breaks it?")
    for line in broken(answer):
        say(f"  {line}")
    if answer.log:
        _head("What would it gain?")
        _gain(answer)
    say("")
    say(f"Next: {answer.next_command}", "bold")


def _head(words: str) -> None:
    say("")
    say(words, "bold")


def _title(server: ServerFacts) -> str:
    return f"{server.url}: {server.engine} {server.version or '(version not said)'}, {server.model}"


def _log_title(log: LogAnswer) -> str:
    sessions = f" in {log.sessions:,} sessions" if log.sessions is not None else ""
    over = f" over {log.seconds:,.0f} s" if log.seconds is not None else ""
    by = "" if log.counted else " (from characters)"
    bad = f"; {log.bad_lines} bad lines left out" if log.bad_lines else ""
    return f"{log.log}: {log.requests:,} requests{sessions}{over}, {log.tokens:,} tokens{by}{bad}"


def _server(s: ServerFacts) -> Iterator[str]:
    on = {True: "on", False: "off", None: "not said"}[s.cache.enabled]
    block = f", blocks of {s.cache.block_tokens}" if s.cache.block_tokens else ""
    room = f", {s.cache.capacity_tokens:,} tokens" if s.cache.capacity_tokens else ""
    yield f"prefix caching: {on}{block}{room}"
    if s.since.hit_ratio is not None and s.since.prompt_tokens:
        of = f"{s.since.prompt_tokens:,.0f} prompt tokens"
        yield f"since its start: {s.since.hit_ratio:.1%} of {of} found"
    if s.window and s.window.prompt_tokens:
        ratio = s.window.hit_ratio
        found = "hits not said" if ratio is None else f"{ratio:.1%} found"
        yield f"in {s.window_s:g} s: {s.window.prompt_tokens:,.0f} prompt tokens, {found}"
    elif s.window:
        yield f"in {s.window_s:g} s: no request"
    known = [f"{name} {value:g}" for name, value in s.gauges.items() if name != "kv_usage"]
    if "kv_usage" in s.gauges:
        known.append(f"cache in use {s.gauges['kv_usage']:.0%}")
    if known:
        yield ", ".join(known)
    if len(s.tiers) > 1:
        yield "found in: " + ", ".join(f"{tier} {count:,.0f}" for tier, count in s.tiers.items())
    if s.repeats:
        counts = " ".join("?" if c is None else str(c) for c in s.repeats.cached_tokens)
        yield f"one prompt of {s.repeats.prompt_tokens} tokens, sent again: {counts} of them cached"


def working(answer: Answer) -> Iterator[str]:
    """Whether caching is working."""
    found = answer.found
    if found:
        yield f"{found[0]:.1%} of the prompt tokens are found, {found[1]}"
    elif answer.server and answer.server.repeats and answer.server.repeats.found:
        yield "yes, for a prompt that is sent again; there was too little traffic to say more"
    elif answer.log:
        yield "the log does not say: its answers have no count of cached tokens"
    elif answer.server and not answer.server.repeats:
        yield "the server's counters do not say; without --no-requests one prompt is sent to tell"
    if answer.log:
        yield f"{answer.log.reachable_hit_ratio:.1%} could be found in a cache without an end"
    if answer.at_capacity is not None:
        yield f"{answer.at_capacity:.1%} in one of {answer.capacity_tokens:,} tokens, the server's"


def broken(answer: Answer) -> Iterator[str]:
    """What is wrong, the gravest first."""
    for fault in answer.faults:
        yield f"{fault.name}: {fault.words}"
        yield f"    do: {fault.remedy}"
    flaws = answer.log.flaws if answer.log else ()
    for flaw in flaws[:MOST_FLAWS]:
        cost = ""
        if flaw.tokens_per_request is not None:
            money = money_per_1000(flaw, answer.price)
            paid = "" if money is None else f", {money:.2f} per 1,000 requests"
            cost = f" [{flaw.tokens_per_request:,.0f} tokens a request{paid}]"
        place = f"{flaw.file}:{flaw.line}" if flaw.line else flaw.file
        yield f"{flaw.rule}: {flaw.detail}{cost}"
        yield f"    at {place} {flaw.field or ''}".rstrip()
        yield f"    do: {flaw.fix}"
    if len(flaws) > MOST_FLAWS:
        yield f"and {len(flaws) - MOST_FLAWS} more: aot lint {answer.log.log if answer.log else ''}"
    if not flaws and not answer.faults:
        yield "nothing found"


def _gain(answer: Answer) -> None:
    log = answer.log
    assert log is not None
    table(
        ("  of the prompt tokens", "share", ""),
        [(f"  {s.name}", f"{s.share:.1%}", s.words) for s in answer.shares],
        right=("share",),
    )
    if log.needed:
        sizes = (
            f"{n.share:.0%}: {n.capacity_tokens:,} tokens{_gib(answer, n.capacity_tokens)}"
            for n in log.needed
        )
        say(f"  a cache for so much of what can be found: {'; '.join(sizes)}")
    for b in log.beginnings:
        say(f"  worth compiling: {b.tokens:,} tokens × {b.requests:,} requests: {b.begins!r}...")
    if log.mended_hit_ratio is not None and log.mended_hit_ratio > log.reachable_hit_ratio + CLOSE:
        say(f"  mended, {log.mended_hit_ratio:.1%} could be found")


def _gib(answer: Answer, tokens: int) -> str:
    gib = answer.gib(tokens)
    return "" if gib is None else f" ({gib:.2g} GiB)"
