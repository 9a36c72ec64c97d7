"""What a log would look like had every conversation only been appended to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from workloads.request_log import Logged

Log = Sequence[Logged]
SYSTEM = ("system", "developer")


def digest(text: str) -> str:
    """A short name for a text, the same in every process."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def whole_history(log: Log) -> list[Logged]:
    """Histories that were cut from the front with what was cut put back."""
    places: dict[str, tuple[int, int]] = {}
    made: list[Logged] = []
    for number, request in enumerate(log):
        head = sum(1 for _ in _leading_system(request))
        turns = list(request.messages[head:])
        if len(turns) >= 3:
            before = _cut_off(made, places, turns)
            turns = [*before, *turns]
        for n, message in enumerate(turns):
            places[digest(json.dumps(message, sort_keys=True))] = (number, n)
        made.append(replace(request, messages=(*request.messages[:head], *turns)))
    return made


def _leading_system(request: Logged) -> Sequence[dict[str, Any]]:
    found = []
    for message in request.messages:
        if message.get("role") not in SYSTEM:
            break
        found.append(message)
    return found


def _cut_off(
    made: list[Logged], places: dict[str, tuple[int, int]], turns: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The turns that an earlier request had before the first two of `turns`."""
    place = places.get(digest(json.dumps(turns[0], sort_keys=True)))
    if place is None or place[1] == 0:
        return []
    number, at = place
    earlier = made[number]
    head = len(_leading_system(earlier))
    old = list(earlier.messages[head:])
    return old[:at] if old[at : at + 2] == turns[:2] else []


def kept_history(log: Log) -> list[Logged]:
    """Earlier turns as they first were, where a later request of the session changed them."""
    sessions: dict[str, Logged] = {}
    made = []
    for request in log:
        head = len(_leading_system(request))
        turns = request.messages[head:]
        if not turns:
            made.append(request)
            continue
        session = digest(json.dumps(turns[0], sort_keys=True))
        before = sessions.get(session)
        if before is not None:
            request = _restored(request, before, head)
        if len(turns) >= 2:
            sessions[session] = request
        made.append(request)
    return made


def _restored(request: Logged, before: Logged, head: int) -> Logged:
    old, new = before.messages[len(_leading_system(before)) :], list(request.messages[head:])
    if len(new) <= len(old) or len(old) < 3:
        return request
    changed = [
        i
        for i, (a, b) in enumerate(zip(old, new, strict=False))
        if a != b and not (a.get("tool_calls") or a.get("role") == "tool")  # see replayed_bytes
    ]
    # The last common turn must be the same: else it is another conversation, not a rewritten one.
    if not changed or changed[-1] >= len(old) - 1:
        return request
    for i in changed:
        new[i] = old[i]
    return replace(request, messages=(*request.messages[:head], *new))
