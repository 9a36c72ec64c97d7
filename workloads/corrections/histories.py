"""What a log would look like had every conversation only been appended to."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from aot.workloads.corrections.logged import Logged, text_of
from aot.workloads.lint.seen import SYSTEM

Log = Sequence[Logged]


def digest(text: str) -> str:
    """A short name for a text, the same in every process."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def whole_history(log: Log) -> list[Logged]:
    """Histories that were cut from the front with what was cut put back."""
    places: dict[str, tuple[int, int]] = {}
    corrected: list[Logged] = []
    for number, request in enumerate(log):
        head = sum(1 for _ in _leading_system(request))
        turns = list(request.messages[head:])
        if len(turns) >= 3:
            before = _cut_off(corrected, places, turns)
            turns = [*before, *turns]
        for n, message in enumerate(turns):
            places[digest(json.dumps(message, sort_keys=True))] = (number, n)
        corrected.append(replace(request, messages=(*request.messages[:head], *turns)))
    return corrected


def _leading_system(request: Logged) -> Sequence[dict[str, Any]]:
    messages = []
    for message in request.messages:
        if message.get("role") not in SYSTEM:
            break
        messages.append(message)
    return messages


def _cut_off(
    corrected: list[Logged], places: dict[str, tuple[int, int]], turns: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The turns that an earlier request had before the first two of `turns`."""
    place = places.get(digest(json.dumps(turns[0], sort_keys=True)))
    if place is None or place[1] == 0:
        return []
    number, at = place
    earlier = corrected[number]
    head = len(_leading_system(earlier))
    old = list(earlier.messages[head:])
    return old[:at] if old[at : at + 2] == turns[:2] else []


MIN_CORE = 20
"""A message this long, that ended one request only, names its conversation."""
_STAMP = re.compile(
    r"^\s*(?:\[[^\]\n]{1,60}\]|\([^)\n]{1,60}\)|<[^>\n]{1,60}>|[\w ]{1,24} ago)[:,]?\s*"
)


def _core(message: dict[str, Any]) -> str:
    """The text of a message without what is put in front of it anew: "[7 min ago] ..."."""
    return _STAMP.sub("", text_of(message))


def kept_history(log: Log) -> list[Logged]:
    """Conversations as they had been with messages only appended: what an earlier request said,
    then what is new, wherever a later request says the earlier part in other words."""
    ended: dict[str, list[int]] = {}
    """By the last message of a request: who ended with it."""
    corrected: list[Logged] = []
    for number, request in enumerate(log):
        corrected.append(_appended(request, corrected, ended))
        if request.messages:
            ended.setdefault(_core(request.messages[-1]), []).append(number)
    return corrected


def _appended(request: Logged, corrected: list[Logged], ended: dict[str, list[int]]) -> Logged:
    messages = request.messages
    for at in range(len(messages) - 2, 0, -1):
        if messages[at].get("role") not in ("user", "tool"):
            continue
        core = _core(messages[at])
        for number in reversed(ended.get(core, [])[-3:]):
            earlier = corrected[number]
            alone = len(core) >= MIN_CORE and len(ended[core]) == 1
            if not (alone or _same_beginning(earlier.messages, messages)):
                continue
            if _only_cut_or_tools(earlier.messages, messages[: at + 1]):
                return request
            same_head = messages[0] == earlier.messages[0] or messages[0].get("role") not in SYSTEM
            head = () if same_head else messages[:1]
            rest = earlier.messages if same_head else earlier.messages[1:]
            return replace(request, messages=(*head, *rest, *messages[at + 1 :]))
    return request


def _same_beginning(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> bool:
    """Whether both have the same first message that is no system message."""
    first, second = (next((m for m in x if m.get("role") not in SYSTEM), None) for x in (old, new))
    return first is not None and first == second


def _only_cut_or_tools(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> bool:
    """Whether `new` is `old`, up to what was cut off its front (see whole_history) and the form of
    tool calls and results (see replayed_bytes)."""
    turns, before = (
        [m for m in messages if m.get("role") not in SYSTEM] for messages in (new, old)
    )
    heads = [[m for m in messages[1:] if m.get("role") in SYSTEM] for messages in (new, old)]
    return (
        heads[0] == heads[1]
        and len(turns) <= len(before)
        and all(
            a == b or a.get("tool_calls") or a.get("role") == "tool"
            for a, b in zip(reversed(turns), reversed(before), strict=False)
        )
    )


Pair = tuple[str, str]


def example_turns(log: Log) -> list[Logged]:
    """Examples that are given as turns, and come now in one order, now in another: in one order."""
    counts: Counter[Pair] = Counter()
    follows: set[tuple[Pair, Pair]] = set()
    for request in log:
        pairs = [pair for _, pair in _pairs(request)]
        counts.update(pairs)
        follows.update(itertools.pairwise(pairs))
    # A history only ever grows or is cut: two of its turns never change places.
    moving = {x for a, b in follows if (b, a) in follows for x in (a, b)}
    if not moving:
        return list(log)
    return [_in_one_order(r, counts, moving) for r in log]


def _pairs(request: Logged) -> list[tuple[int, Pair]]:
    """Each user message with its answer, and where it stands."""
    messages = request.messages
    return [
        (n, (text_of(a), text_of(b)))
        for n, (a, b) in enumerate(itertools.pairwise(messages))
        if a.get("role") == "user" and b.get("role") == "assistant"
    ]


def _in_one_order(request: Logged, counts: Counter[Pair], moving: set[Pair]) -> Logged:
    pairs = [(n, pair) for n, pair in _pairs(request) if pair in moving]
    by_use = sorted((pair for _, pair in pairs), key=lambda p: (-counts[p], digest("".join(p))))
    texts: dict[int, str] = {}
    for (n, _), (question, answer) in zip(pairs, by_use, strict=True):
        texts |= {n: question, n + 1: answer}
    return request.with_texts(texts)
