"""A log as it is replayed: bodies as they were, but for what is declared; and what is static in it,
found in one part of it for the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.workloads.logs import shared
from aot.workloads.logs.traced import Traced
from aot.workloads.requests.request import LEARNED_FROM, Request, Schedule

OUTPUT_FIELDS = {
    "chat": ("max_tokens", "max_completion_tokens"),
    "completions": ("max_tokens",),
    "messages": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "generate": ("max_new_tokens",),
}
"""Where a body says how much may be generated."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A body to be sent; what may be generated, where it says that; what is otherwise than it was
    logged."""

    body: Mapping[str, Any]
    max_tokens: int | None
    changes: list[str]


def sent(traced: Traced, recorded: int | None, most: int | None) -> Sent:
    """A logged body. `recorded`: generate exactly so many tokens; `most`: at most so many."""
    body, changes = dict(traced.body or {}), []
    place = body
    if traced.endpoint == "generate":  # where it says all that is not the text
        place = body["sampling_params"] = dict(body.get("sampling_params") or {})
    fields = OUTPUT_FIELDS[traced.endpoint]
    field = next((name for name in fields if name in place), fields[0])
    if recorded:
        place |= {field: recorded, "ignore_eos": True}
        changes.append("output: as many tokens as were recorded, to the end")
    if most is not None and (type(place.get(field)) is not int or place[field] > most):
        place[field] = most
        changes.append(f"output: at most {most} tokens")
    if "model" in body:
        changes.append("model: the one that the server has")
    if body.get("stream") is not True:
        changes.append("stream: answers are streamed, with their usage, to be timed")
    asked = place.get(field)
    return Sent(body, asked if type(asked) is int and asked > 0 else None, changes)


def learned(made: Schedule, share: float, changes_of: Mapping[str, Sequence[str]]) -> Schedule:
    """With the static parts that are found in the first `share` of it, and the rest of it."""
    count = round(share * len(made.requests))
    if share and not 0 < count < len(made.requests):
        raise UsageError(
            f"{made.name}: {len(made.requests)} requests are too few to find static parts in "
            f"{share:.0%} of them and replay the others"
        )
    given = shared.with_prefixes(made, made.requests[: count or None])
    if not count:
        return replace(given, changes=_counted(given.requests, changes_of))
    begin_s = given.requests[count].at_s
    left = [replace(r, at_s=round(r.at_s - begin_s, 6)) for r in given.requests[count:]]
    ids = {r.id for r in left}
    cut = tuple(r if r.after in ids else replace(r, after=None, think_s=0.0) for r in left)
    used = {r.prefix for r in cut}
    prefixes = {name: p for name, p in given.prefixes.items() if name in used}
    changes = {**_counted(cut, changes_of), LEARNED_FROM: count}
    return replace(given, prefixes=prefixes, requests=cut, changes=changes)


def _counted(
    requests: Sequence[Request], changes_of: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    return dict(sorted(Counter(c for r in requests for c in changes_of.get(r.id, ())).items()))
