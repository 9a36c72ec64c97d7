"""What compiling ahead of time cannot beat: the time of the dynamic suffix alone.

After an aot replay some of its requests are sent again, one at a time: with the static prefix in
the cache, and without it altogether. A few words in front of the dynamic part make it new, so that
nothing of it is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from aot.workloads.requests.request import Message, Prefix, Request, Schedule

PAIRS = 12
PREFIXES = 4
"""Static prefixes that the pairs are drawn from: each of them is sent once more, uncounted."""
ALONE = "suffix alone"
WITH, WITHOUT = "with", "alone"
"""How the ids of the two requests of a pair begin."""


def schedule(of: Schedule) -> Schedule | None:
    """Closed loop of one user; None where no request of `of` has a static prefix before it."""
    chosen = list(islice(_requests(of), PAIRS))
    if not chosen:
        return None
    used = dict.fromkeys(r.prefix for r in chosen)
    nothing = Prefix(ALONE, (), next(iter(of.prefixes.values())).probes)
    requests = [_first(of.prefixes[name]) for name in used]
    for number, request in enumerate(chosen):
        own = _renewed(request.messages, number)
        for kind, prefix in ((WITH, request.prefix), (WITHOUT, ALONE)):
            requests.append(Request(f"{kind}/{number}", 0.0, request.tenant, prefix, own, 1))
    return replace(
        of,
        name=f"{of.name}: floor",
        mode="closed",
        users=1,
        max_tokens=1,
        think_s=0.0,
        prefixes={**{name: of.prefixes[name] for name in used}, ALONE: nothing},
        requests=tuple(requests),
    )


def _requests(of: Schedule) -> Iterator[Request]:
    """Requests that open a chat, of the first few prefixes that have static messages."""
    seen: set[str] = set()
    for request in of.requests:
        if request.after is not None or not of.prefixes[request.prefix].messages:
            continue
        if request.prefix in seen or len(seen) < PREFIXES:
            seen.add(request.prefix)
            yield request


def _first(prefix: Prefix) -> Request:
    """Puts a prefix back where the traffic has evicted it; not one of the pairs."""
    own: tuple[Message, ...] = ({"role": "user", "content": "Once more, before the clock."},)
    return Request(f"first/{prefix.id}", 0.0, prefix.id, prefix.id, own, 1)


def _renewed(messages: tuple[Message, ...], number: int) -> tuple[Message, ...]:
    first, *rest = messages
    return ({**first, "content": f"Number {number} once more. {first['content']}"}, *rest)
