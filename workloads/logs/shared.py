"""Static parts found in traffic: what many of its prompts begin with, as prefixes to be warmed.

Prompts are compared as they are rendered, message by message, in chunks; a part is worth compiling
where prompts of two sessions or more share it beyond what is compiled already. What is found in one
part of a log is given to the rest of it, so that nobody warms what is measured.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from aot.configs.kernel.chains import chain
from aot.workloads.requests.request import FILLERS, Message, Prefix, Request, Schedule
from aot.workloads.requests.schedule import ROLES

CHUNK = 64
"""Characters: about a block of 16 tokens."""
LEAST_CHARACTERS = 256
"""What a part must have beyond a shorter one: some four blocks."""
LEAST_SESSIONS = 2
MOST_PREFIXES = 64
MOST_CHARACTERS = 1_000_000
"""Of one prompt that are looked at,"""
MOST_IN_ALL = 20_000_000
"""and of all prompts in which static parts are looked for: those of every so many requests."""
FRAME = "\x1e"


@dataclass(slots=True)
class _Place:
    """A beginning that was seen. `sessions`: up to as many as matter."""

    uses: int = 0
    sessions: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Found:
    """The first `characters` of what a request renders to, which others share."""

    example: Request
    characters: int
    name: int
    uses: int


def with_prefixes(schedule: Schedule, learned: Sequence[Request]) -> Schedule:
    """The schedule with the static parts that the `learned` requests have in common as its
    prefixes; each request has the longest of them that it begins with."""
    groups = _grouped(schedule, _sampled(schedule, learned))
    found = [f for _, group in sorted(groups.items()) for f in _worth_compiling(schedule, group)]
    found = sorted(found, key=lambda f: -f.characters * (f.uses - 1))[:MOST_PREFIXES]
    prefixes = {}
    by_name: dict[tuple[str, int], str] = {}
    for number, one in enumerate(found):
        prefix = _prefix(schedule, one, f"found-{number}")
        prefixes[prefix.id] = prefix
        by_name[_key(schedule, one.example), one.name] = prefix.id
    longest = max((f.characters for f in found), default=0)
    requests = []
    for request in schedule.requests:
        name = _longest(schedule, request, by_name, longest)
        if name is None:
            old = schedule.prefixes[request.prefix]
            prefixes.setdefault(old.id, old)
        requests.append(replace(request, prefix=name or request.prefix))
    return replace(schedule, prefixes=prefixes, requests=tuple(requests))


def _sampled(schedule: Schedule, requests: Sequence[Request]) -> Sequence[Request]:
    """As many as are looked at, from all over."""
    some = requests[:: max(1, len(requests) // 100)]
    each = sum(len(rendered(schedule, r)) for r in some) / max(1, len(some))
    return requests[:: max(1, round(each * len(requests) / MOST_IN_ALL))]


def _grouped(schedule: Schedule, requests: Sequence[Request]) -> dict[str, list[Request]]:
    """Requests that could share blocks at all."""
    groups = defaultdict(list)
    for request in requests:
        groups[_key(schedule, request)].append(request)
    return groups


def _key(schedule: Schedule, request: Request) -> str:
    """What keeps prompts apart besides their text: salt, tools, arguments of the template."""
    tools, arguments = schedule.chat_of(request).tools, schedule.arguments_of(request)
    return json.dumps([schedule.prefixes[request.prefix].salt, tools, arguments], sort_keys=True)


def _worth_compiling(schedule: Schedule, requests: Sequence[Request]) -> Iterator[_Found]:
    places: dict[int, _Place] = defaultdict(_Place)
    beginnings = [list(_beginnings(rendered(schedule, r))) for r in requests]
    for request, names in zip(requests, beginnings, strict=True):
        session = root_of(schedule, request)
        for name in names:
            place = places[name]
            place.uses += 1
            if len(place.sessions) < LEAST_SESSIONS:
                place.sessions.add(session)
    deepest: dict[int, tuple[Request, list[int]]] = {}
    for request, names in zip(requests, beginnings, strict=True):
        shared = [n for n, name in enumerate(names) if len(places[name].sessions) >= LEAST_SESSIONS]
        if shared:
            deepest.setdefault(names[shared[-1]], (request, names[: shared[-1] + 1]))
    kept: set[int] = set()
    for name, (request, path) in sorted(deepest.items(), key=lambda item: len(item[1][1])):
        longest = max((n + 1 for n, other in enumerate(path[:-1]) if other in kept), default=0)
        if (len(path) - longest) * CHUNK >= LEAST_CHARACTERS:
            kept.add(name)
            yield _Found(request, len(path) * CHUNK, name, places[name].uses)


def rendered(schedule: Schedule, request: Request, most: int = MOST_CHARACTERS) -> str:
    """What a prompt is compared by: its messages, one after the other, so far as they are looked
    at."""
    parts: list[str] = []
    length = 0
    for message in schedule.chat_of(request).messages:
        parts += (_head(message), _content(message))
        length += len(parts[-1]) + len(parts[-2])
        if length >= most:
            break
    return "".join(parts)[:most]


def _head(message: Message) -> str:
    rest = {k: v for k, v in message.items() if k not in ("role", "content")}
    more = json.dumps(rest, sort_keys=True, ensure_ascii=False) if rest else ""
    return f"{FRAME}{message.get('role')}{more}{FRAME}"


def _content(message: Message) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)


def _beginnings(text: str) -> Iterator[int]:
    ends = range(0, len(text) - CHUNK + 1, CHUNK)
    return chain(text[start : start + CHUNK] for start in ends)


def _longest(
    schedule: Schedule, request: Request, by_name: dict[tuple[str, int], str], characters: int
) -> str | None:
    """The longest found part that a prompt begins with; none has more than `characters`."""
    if not by_name:
        return None
    key, longest = _key(schedule, request), None
    for name in _beginnings(rendered(schedule, request, characters)):
        longest = by_name.get((key, name), longest)
    return longest


def root_of(schedule: Schedule, request: Request) -> str:
    """The first turn of its session."""
    while request.after is not None:
        request = schedule.by_id[request.after]
    return request.id


def _prefix(schedule: Schedule, found: _Found, name: str) -> Prefix:
    """The messages that lie in the part whole, and two dynamic parts that begin with the rest."""
    chat = schedule.chat_of(found.example)
    left, whole = found.characters, 0
    for message in chat.messages:
        size = len(_head(message)) + len(_content(message))
        if size > left or message.get("role") not in ROLES:
            break  # what is no message (a call, as /v1/responses has it) is not warmed with
        left, whole = left - size, whole + 1
    old = schedule.prefixes[found.example.prefix]
    messages = tuple(chat.messages[:whole])
    probes = _probes(chat.messages, whole, left)
    if found.example.body is None:
        # Its requests have their own messages whole.
        probes = ((*messages, *probes[0]), (*messages, *probes[1]))
        messages = ()
    arguments = schedule.arguments_of(found.example)
    return Prefix(name, messages, probes, tuple(chat.tools), old.salt, arguments)


def _probes(
    messages: Sequence[Message], whole: int, left: int
) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    message = messages[whole] if whole < len(messages) else {}
    content, into = message.get("content"), left - len(_head(message))
    if not isinstance(content, str) or into <= 0 or message.get("role") not in ROLES:
        role = message["role"] if message.get("role") in ("user", "system") else "user"
        one, other = ({"role": role, "content": filler} for filler in FILLERS)
    else:
        one, other = ({**message, "content": content[:into] + filler} for filler in FILLERS)
    return (one,), (other,)
