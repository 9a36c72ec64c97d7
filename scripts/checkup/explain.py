"""Why one request found no more in the cache than it did: from its log, and what is known of the
server. What cannot be concluded is not concluded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from aot.scripts.checkup.causes import IN_ORDER, Case, Knowledge, Verdict, most_alike, nearest
from aot.scripts.checkup.history import History
from aot.workloads.lint.divergence import Divergence, measure
from aot.workloads.lint.naming import Named, Namer
from aot.workloads.requests.tokens import common_prefix


@dataclass(frozen=True, slots=True)
class Explained:
    """`cause` is one of CAUSES. Tokens: of the prompt, those that were sent before in this order
    (`shared`), and those that the server found. `token`: the first that differs from `line`, the
    earlier request that has most of it; `path`: where that is in the body."""

    line: int
    cause: str
    words: str
    remedy: str
    prompt_tokens: int
    shared_tokens: int
    found_tokens: int | None
    earlier_line: int | None = None
    token: int | None = None
    path: str | None = None
    rule: str | None = None
    now: str | None = None
    before: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"format": "aot-explain/1", **asdict(self)}


CAUSES = (
    "first touch", "edit", "salt", "adapter", "model", "arguments", "below a block", "in flight",
    "evicted", "expired", "another replica", "evicted or another replica", "window rule",
    "nothing missed",
)  # fmt: skip


def explain(history: History, known: Knowledge) -> Explained:
    """The one cause of one request."""
    likest = most_alike(history)
    pair = [one for one in (likest, history.request.seen) if one is not None]
    places = [p for of_one in measure(pair)[1] for p in of_one if p.request == 1]
    place = places[0] if places else None
    named = Namer(pair).name(place) if place else None
    case = _case(history, known, place)
    verdict = next(v for rule in IN_ORDER for v in [rule(case, named)] if v)
    most = likest if place else nearest(history)
    if most is None:
        return _explained(case, verdict, named, None, None)
    number = next(n for n, sent in enumerate(history.before) if sent.seen is most)
    return _explained(case, verdict, named, number, _token(history, known, number))


def _case(history: History, known: Knowledge, place: Divergence | None) -> Case:
    size, blocks = history.block_tokens, history.shared_blocks
    served = history.request.seen.served
    ids = known.encode(history.request)
    characters = history.request.seen.characters
    counted = served.prompt_tokens if served else None
    prompt = len(ids) if ids else counted or round(characters * history.tokens_per_character)
    shared = min(blocks * size, max(0, prompt - 1) // size * size)
    holder = history.holder()
    earlier = known.encode(history.before[holder]) if ids and holder is not None else None
    if ids and earlier:  # what a chat template writes around the texts is counted, too
        shared = min(common_prefix(ids, earlier), len(ids) - 1) // size * size
    found = served.cached_tokens if served else None
    return Case(history, known, prompt, shared, found, place)


def _token(history: History, known: Knowledge, number: int) -> int | None:
    """The first token that differs from an earlier request; None without a tokenizer."""
    mine, theirs = known.encode(history.request), known.encode(history.before[number])
    return common_prefix(mine, theirs) if mine and theirs else None


def _explained(
    case: Case, verdict: Verdict, named: Named | None, number: int | None, token: int | None
) -> Explained:
    cause, words, remedy = verdict
    edit = named if cause in ("edit", "salt", "adapter", "model", "arguments") else None
    return Explained(
        line=case.history.request.seen.line,
        cause=cause,
        words=words,
        remedy=remedy,
        prompt_tokens=case.prompt_tokens,
        shared_tokens=case.shared_tokens,
        found_tokens=case.found_tokens,
        earlier_line=None if number is None else case.history.before[number].seen.line,
        token=token,
        path=edit.path if edit else None,
        rule=edit.rule if edit else None,
        now=edit.now if edit else None,
        before=edit.before if edit else None,
    )


def lines(made: Explained) -> Iterator[str]:
    """For people."""
    found = "not said" if made.found_tokens is None else f"{made.found_tokens:,}"
    yield (
        f"line {made.line}: {made.prompt_tokens:,} prompt tokens, {made.shared_tokens:,} of them "
        f"sent before in this order, found: {found}"
    )
    yield f"cause: {made.cause}"
    yield f"  {made.words}"
    if made.earlier_line is not None:
        at = "" if made.token is None else f"; the two part at token {made.token}"
        yield f"  most is shared with line {made.earlier_line}{at}"
    if made.path:
        yield f"  in {made.path}: {made.now!r} (before: {made.before!r})"
    yield f"  do: {made.remedy}"
