"""What is wrong with a server's prefix cache, in words that say what to do; the gravest first.
Each follows from a fact; what is not known is not named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from aot.serving.health.facts import ServerFacts

FEW_TOKENS = 20_000
"""Prompt tokens since the start, below which a low hit ratio says nothing."""
NOTHING_FOUND = 0.05
SHORT_LIFE_S = 60.0
"""What is not used again within a minute of coming in is lost to conversations."""
MOST_PREEMPTED = 0.001
"""Of the requests."""
BLOCKS_OF_A_PROMPT = 2
MOSTLY_WAITING = 0.75
"""Of the looks. Not all of them: one look may fall between two steps of the engine."""
FEWEST_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """`name`: of the rule. `words`: what is seen. `remedy`: what to do."""

    name: str
    words: str
    remedy: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def faults(facts: ServerFacts) -> list[Fault]:
    """All that is wrong. Empty for a healthy server."""
    return [fault for rule in RULES for fault in rule(facts)]


def _off(f: ServerFacts) -> Iterator[Fault]:
    if f.cache.enabled is False:
        yield _fault(
            f, "off", "prefix caching is off, by what the server says of itself", "turn it on"
        )


def _fault(f: ServerFacts, name: str, words: str, else_: str = "") -> Fault:
    """With the engine's own setting as remedy, where that is known."""
    return Fault(name, words, f.settings.get(name, else_))


def _several(f: ServerFacts) -> Iterator[Fault]:
    """One prompt, again and again: who takes turns misses as often as there are replicas."""
    r = f.repeats
    if r is None or not r.reported or f.cache.enabled is False:
        return
    sent, found = len(r.cached_tokens), r.found
    if 0 < found < sent - 1 and f.engines == 1:  # else the ranks are those caches
        yield Fault(
            "no-affinity",
            f"of {sent} sendings of one prompt {sent - found} found nothing, the first included: "
            "several caches stand behind this address, and requests go to them in turn",
            "have the router keep prompts that begin alike on one replica (vllm-router or smg with "
            "--policy cache_aware, production-stack: --routing-logic prefixaware, llm-d: the "
            "prefix scorer)",
        )
    elif not found and f.cache.enabled is None:
        yield Fault(
            "nothing-found",
            f"one prompt was sent {sent} times, and nothing of it was ever found",
            "caching is off, or requests go to one of many replicas in turn: ask an engine itself "
            "(aot check --url ENGINE)",
        )
    elif not found:
        yield _unfound(f, sent)


def _unfound(f: ServerFacts, sent: int) -> Fault:
    rule, prompt = f.cache.rule, f.repeats.prompt_tokens if f.repeats else None
    if rule is not None and rule.advice:
        return Fault("window-rule", f"one prompt was sent {sent} times and not found", rule.advice)
    return Fault(
        "nothing-found",
        f"caching is on by what the server says of itself, but one prompt of {prompt} tokens was "
        f"sent {sent} times and nothing of it was found",
        "look for what gives every request a cache of its own on the way: a gateway that adds a "
        "cache_salt, a user or an adapter",
    )


def _ranks(f: ServerFacts) -> Iterator[Fault]:
    if f.engines > 1:
        yield Fault(
            "ranks",
            f"{f.engines} data-parallel engines answer here, each with a cache of its own",
            "keep prompts that begin alike on one of them: a router that is told of each rank "
            "(vLLM: --data-parallel-external-lb, or --data-parallel-hybrid-lb), or fewer ranks",
        )


def _window(f: ServerFacts) -> Iterator[Fault]:
    rule = f.cache.rule
    if rule is not None and rule.advice and (f.repeats is None or f.repeats.found):
        yield Fault(
            "window-rule", "the model has layers that see a window, or keep a state", rule.advice
        )


def _unreported(f: ServerFacts) -> Iterator[Fault]:
    if f.repeats is not None and not f.repeats.reported:
        yield _fault(
            f,
            "unreported",
            "answers do not say how many of their prompt tokens were cached, so that neither "
            "clients nor logs can tell",
            "have the server say so, or ask an engine behind it",
        )


def _no_metrics(f: ServerFacts) -> Iterator[Fault]:
    if not f.has_metrics and "no-metrics" in f.settings:
        yield _fault(f, "no-metrics", "there is no page of metrics")


def _room(f: ServerFacts) -> Iterator[Fault]:
    capacity, context = f.cache.capacity_tokens, f.context_tokens
    if capacity is not None and context is not None and capacity < context:
        yield Fault(
            "small-cache",
            f"the cache holds {capacity:,} tokens, less than one prompt of the {context:,} that "
            "the model may be sent",
            f"{_larger(f)}, or a shorter context",
        )


def _larger(f: ServerFacts) -> str:
    return f.settings.get("small-cache", "give the cache more memory")


def _preempted(f: ServerFacts) -> Iterator[Fault]:
    count = f.since.preemptions
    if not count or (f.requests and count < MOST_PREEMPTED * f.requests):
        return
    of = f" in {f.requests:,.0f} requests" if f.requests else ""
    yield Fault(
        "preemptions",
        f"{count:,.0f} times{of} a request lost its place in the cache while it ran: what runs "
        "does not fit, and evicts all that was kept",
        f"{_larger(f)}; or let fewer run at once",
    )


def _short_life(f: ServerFacts) -> Iterator[Fault]:
    if f.lives_s is not None and f.lives_s < SHORT_LIFE_S:
        yield Fault(
            "short-life",
            f"at the rate of the last {f.window_s:g} s all that the cache holds is displaced in "
            f"{f.lives_s:.0f} s",
            f"{_larger(f)}; 'aot check LOG' says how large it must be for your traffic",
        )


def _short_prompts(f: ServerFacts) -> Iterator[Fault]:
    mean, block = f.mean_prompt_tokens, f.cache.block_tokens
    enough = (f.since.prompt_tokens or 0) >= FEW_TOKENS
    if mean is not None and block and enough and mean < BLOCKS_OF_A_PROMPT * block:
        yield _fault(
            f,
            "below-a-block",
            f"prompts have {mean:.0f} tokens on average, and only whole blocks of {block} are "
            "kept: little of them can be found",
            "smaller blocks",
        )


def _never_found(f: ServerFacts) -> Iterator[Fault]:
    """The cache works for one prompt that is sent again, and not for the traffic."""
    ratio, tokens = f.since.hit_ratio, f.since.prompt_tokens
    works = f.repeats and f.repeats.found
    if works and ratio is not None and tokens and tokens >= FEW_TOKENS and ratio < NOTHING_FOUND:
        yield Fault(
            "traffic-finds-nothing",
            f"the cache finds what is sent again, but of {tokens:,.0f} prompt tokens since the "
            f"start only {ratio:.1%} were found",
            "look at the prompts: a cache_salt per request, or text that changes at their "
            "beginning ('aot check LOG', 'aot lint', 'aot watch --events')",
        )


def _dated(f: ServerFacts) -> Iterator[Fault]:
    if f.dated:
        yield Fault(
            "template-date",
            f"the chat template writes today's date ('{f.dated}') into every prompt: all that is "
            "kept is lost at midnight",
            "pin it: an argument of the template (date_string in chat_template_kwargs), or a "
            "template without it (--chat-template)",
        )


def _queue(f: ServerFacts) -> Iterator[Fault]:
    if f.looks >= FEWEST_LOOKS and f.looks_waiting >= MOSTLY_WAITING * f.looks:
        most = f.gauges.get("waiting", 0)
        yield _fault(
            f,
            "queue",
            f"requests waited at {f.looks_waiting} of {f.looks} looks (up to {most:.0f}): time to "
            "first token is the queue's",
            "more replicas, or a lower rate",
        )


RULES: tuple[Callable[[ServerFacts], Iterator[Fault]], ...] = (
    _off, _several, _ranks, _window, _room, _preempted, _short_life, _short_prompts, _never_found,
    _unreported, _no_metrics, _dated, _queue,
)  # fmt: skip
"""The gravest first."""
