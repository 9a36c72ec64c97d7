"""The causes for which a request found no more in the cache: one rule each, in the order in which
they are asked (pure)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from aot.analysis.cache import limited
from aot.configs.caches.rule import CacheRule
from aot.scripts.checkup.history import History, Sent, common_characters
from aot.workloads.lint.divergence import Divergence
from aot.workloads.lint.flaw import RULES
from aot.workloads.lint.log import LIFETIME_S
from aot.workloads.lint.naming import Named
from aot.workloads.lint.seen import SALTS, Seen
from aot.workloads.traces.blocks import Builder

Encode = Callable[[Sent], list[int] | None]
"""Token ids of a prompt; None where nobody can tell."""
ADAPTERS = ("lora_name", "lora_path", "adapter")
ALLOWANCE_BLOCKS = 1
"""Blocks are of characters where no tokenizer counts: one more or less is no finding."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Of the server; None: not known. `lifetime_s`: for how long what is not used is kept."""

    capacity_tokens: int | None = None
    rule: CacheRule | None = None
    lifetime_s: float | None = None
    encode: Encode = lambda _: None
    exact: bool = False
    adapters: frozenset[str] = frozenset()
    """Names of models that are adapters of another one."""


@dataclass(frozen=True, slots=True)
class Case:
    """What all rules look at."""

    history: History
    known: Knowledge
    prompt_tokens: int
    shared_tokens: int
    """That an unbounded cache finds: whole blocks."""
    found_tokens: int | None
    place: Divergence | None
    """Where it parts from the request that is most like it, and loses by it."""

    @property
    def missed_tokens(self) -> int:
        """Of those that were sent before; 0 where the server's own count is not known."""
        found = self.found_tokens
        return 0 if found is None else max(0, self.shared_tokens - found)


Verdict = tuple[str, str, str]
"""Cause, words, remedy."""


def most_alike(history: History) -> Seen | None:
    """The earlier request under the same key that has most lines of this one, wherever they stand;
    the latest of equals."""
    mine = history.request.seen
    lines = _lines(mine)
    best, found = 0, None
    for sent in history.before:
        if sent.seen.key != mine.key:
            continue
        shared = sum(len(line) for line in lines & _lines(sent.seen))
        if shared >= max(1, best):
            best, found = shared, sent.seen
    return found


def _lines(request: Seen) -> set[str]:
    texts = (text for path, text in request.parts if not path.endswith(".role"))
    return {line for text in texts for line in text.split("\n")}


def nearest(history: History) -> Seen | None:
    """The earlier request with the longest common beginning, the latest of equals."""
    mine = history.request.seen
    lengths = [
        (common_characters(mine.parts, s.seen.parts), n) for n, s in enumerate(history.before)
    ]
    length, number = max(lengths, default=(0, -1))
    return history.before[number].seen if length else None


def _missed(case: Case) -> bool:
    allowance = 0 if case.known.exact else ALLOWANCE_BLOCKS * case.history.block_tokens
    return case.missed_tokens > allowance


def _window(case: Case, _: Named | None) -> Verdict | None:
    rule = case.known.rule
    if rule is None or rule.is_dense or not _missed(case):
        return None
    builder = Builder(case.history.block_tokens, full_only=True)
    for names in case.history.names:
        builder.add(names, len(names) * case.history.block_tokens + 1)
    blocks = list(limited.leading(builder.build(), rule, None))[-1]
    if blocks * case.history.block_tokens > (case.found_tokens or 0) + case.history.block_tokens:
        return None
    return (
        "window rule",
        f"{case.shared_tokens:,} tokens were sent before, and the cache of this model keeps what a "
        "window or a state needs at some places only",
        rule.advice
        or "send what is shared once more, so that the place where prompts part is kept",
    )


def _in_flight(case: Case, _: Named | None) -> Verdict | None:
    """Nobody had computed it yet when this was sent."""
    h = case.history
    at_s = h.request.seen.at_s
    if not _missed(case) or at_s is None:
        return None
    holders = h.had(case.found_tokens or 0)
    ready = [_ready_s(h.before[n]) for n in holders]
    if not ready or any(r is None or r <= at_s for r in ready):
        return None
    return (
        "in flight",
        f"the {len(holders)} request(s) with the same beginning (line "
        f"{h.before[holders[0]].seen.line} the first) were not answered yet when this one was "
        "sent: nothing of them was in the cache",
        "send the first of many alike alone, or fill the cache ahead of time (aot warm)",
    )


def _ready_s(sent: Sent) -> float | None:
    """When its prompt was computed: with its first token, or at the latest with its answer."""
    took_s = sent.ttft_s if sent.ttft_s is not None else sent.logged.duration_s
    return None if sent.seen.at_s is None or took_s is None else sent.seen.at_s + took_s


def _gone(case: Case, _: Named | None) -> Verdict | None:
    """It was there, and is not any more, or is elsewhere."""
    h, known = case.history, case.known
    holders = h.had(case.found_tokens or 0)
    owner = holders[-1] if holders else h.holder()
    if owner is None or not _missed(case):
        return None
    before = h.before[owner]
    capacity = known.capacity_tokens
    by = h.displaced(owner, capacity // h.block_tokens) if capacity else None
    if by is not None:
        return _evicted(h, owner, by, capacity or 0)
    if before.replica and h.request.replica and before.replica != h.request.replica:
        return (
            "another replica",
            f"line {before.seen.line} had the same beginning on {before.replica}, and this one "
            f"went to {h.request.replica}",
            "a router that keeps prompts which begin alike on one replica",
        )
    rest_s = _rest_s(before, h.request)
    lifetime_s = known.lifetime_s if known.lifetime_s is not None else (
        LIFETIME_S if capacity is None else None
    )  # fmt: skip
    if rest_s is not None and lifetime_s is not None and rest_s > lifetime_s:
        return (
            "expired",
            f"the same beginning was last used {rest_s:,.0f} s before (line {before.seen.line}), "
            f"longer than the {lifetime_s:,.0f} s for which it is kept",
            "a longer lifetime, or use it again in time (aot warm --watch)",
        )
    if capacity:
        return (
            "another replica",
            f"line {before.seen.line} had the same beginning, and less came in since than the "
            f"cache of {capacity:,} tokens holds: it went to another replica, or the server was "
            "restarted or emptied in between",
            "a router that keeps prompts which begin alike on one replica; or look for restarts",
        )
    return (
        "evicted or another replica",
        f"line {before.seen.line} had the same beginning; which of the two it is, a log alone "
        "cannot tell",
        "name the server, for the size of its cache: --url URL or --server FILE",
    )


def _evicted(h: History, owner: int, by: int, capacity: int) -> Verdict:
    at_s = h.before[by].seen.at_s
    when = "" if at_s is None else f" at {_clock(at_s)}"
    return (
        "evicted",
        f"line {h.before[owner].seen.line} had the same beginning; {by - owner} requests "
        f"later{when} (line {h.before[by].seen.line}) more had come in than the {capacity:,} "
        "tokens that the cache holds",
        "a larger cache ('aot check LOG' says how large), or fewer prompts that share nothing",
    )


def _clock(at_s: float) -> str:
    known = at_s > 1e8  # else seconds since the log began
    return datetime.fromtimestamp(at_s, UTC).isoformat() if known else f"{at_s:g} s"


def _rest_s(before: Sent, now: Sent) -> float | None:
    if before.seen.at_s is None or now.seen.at_s is None:
        return None
    return now.seen.at_s - before.seen.at_s


def _apart(case: Case, _: Named | None) -> Verdict | None:
    """The same text under another key shares more."""
    h, mine = case.history, case.history.request.seen
    # What was found although the key is another one is kept apart by nothing.
    best, key = max(case.shared_tokens, case.found_tokens or 0) + h.block_tokens, None
    for sent in h.before:
        if sent.seen.key == mine.key:
            continue
        tokens = common_characters(mine.parts, sent.seen.parts) * h.tokens_per_character
        if tokens >= best:
            best, key = round(tokens) + 1, sent.seen
    if key is None:
        return None
    field = next(k for k in {**key.apart, **mine.apart} if key.apart.get(k) != mine.apart.get(k))
    cause = "arguments"
    if field in SALTS:
        cause = "salt"
    old, new = (one.apart.get(field, "none") for one in (key, mine))
    if field in ADAPTERS or (field == "model" and {old, new} & case.known.adapters):
        cause = "adapter"
    elif field == "model":
        cause = "model"
    return (
        cause,
        f"line {key.line} begins alike for {best - 1:,} tokens, under another {field} ({old[:60]} "
        f"there, {new[:60]} here): caches are kept apart by it",
        RULES["cache-key" if cause in ("salt", "adapter") else "model-changes"][1]
        if cause != "arguments"
        else RULES["template-arguments"][1],
    )


def _edited(case: Case, named: Named | None) -> Verdict | None:
    if named is None or case.place is None:
        return None
    lost = case.place.lost * case.history.tokens_per_character
    if lost < max(case.history.block_tokens, WORTH * case.prompt_tokens):
        return None
    words, remedy = RULES[named.rule]
    return "edit", f"{words}: {lost:,.0f} tokens behind it were sent before", remedy


def _short(case: Case, _: Named | None) -> Verdict | None:
    """Something is shared, and no whole block of it."""
    most = nearest(case.history)
    if case.shared_tokens or most is None:
        return None
    shared = common_characters(case.history.request.seen.parts, most.parts)
    tokens = shared * case.history.tokens_per_character
    if case.prompt_tokens > case.history.block_tokens and tokens < MOSTLY * case.prompt_tokens:
        return None
    return (
        "below a block",
        f"about {tokens:,.0f} tokens are shared with line {most.line}, and only whole blocks of "
        f"{case.history.block_tokens} are kept",
        "smaller blocks, or a longer static part",
    )


MOSTLY = 0.5
WORTH = 0.1
"""Of a prompt: what it has in common with others by chance is less."""


def _first(case: Case, _: Named | None) -> Verdict | None:
    if case.shared_tokens:
        return None
    return (
        "first touch",
        "no earlier request of this log begins alike: its first one always pays",
        "fill the cache ahead of time: aot compile LOG, aot warm",
    )


def _nothing(case: Case, _: Named | None) -> Verdict:
    found = case.found_tokens
    seen = "the log does not say what was found" if found is None else f"{found:,} were found"
    return (
        "nothing missed",
        f"{case.shared_tokens:,} of its {case.prompt_tokens:,} tokens were sent before in this "
        f"order, and {seen}: the rest is new",
        "nothing to mend",
    )


IN_ORDER: tuple[Callable[[Case, Named | None], Verdict | None], ...] = (
    _window, _in_flight, _gone, _apart, _edited, _short, _first, _nothing,
)  # fmt: skip
