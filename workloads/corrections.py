"""What a log would look like without one flaw: each rule's correction of all requests.

Pure functions of the whole log. A correction that changes nothing returns equal requests.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from workloads import volatile
from workloads.request_log import Logged, text_of

Log = Sequence[Logged]
STATIC_SHARE = 0.5
"""A block of text in this share of the requests is static."""
MIN_BLOCK_CHARACTERS = 40
_NUMBERED = re.compile(
    r"^\W{0,3}(?:(?:doc(?:ument)?|passage|chunk|source|context|result|example|shot)s?)?\s*"
    r"[#\[(]{0,2}\d{1,3}[\]).:]{0,2}\s*",
    re.I,
)
_EXAMPLE = re.compile(
    r"^\W{0,3}(?:example|shot|q(?:uestion)?|input|user|human|customer|text|review)\b.{0,12}[:#\d]",
    re.I,
)
_SYSTEM = ("system", "developer")


def _masked(kind: volatile.Class) -> Callable[[Log], list[Logged]]:
    patterns = [p for p in (*volatile.LABELLED, *volatile.BARE) if p.kind == kind]
    cache: dict[str, str] = {}

    def mask(text: str) -> str:
        if text not in cache:
            made = volatile.blank(text, tuple(patterns))
            cache[text] = volatile.USER_LINE.sub("<user>", made) if kind == "user" else made
        return cache[text]

    return lambda log: [_map_system(r, mask) for r in log]


def _map_system(request: Logged, change: Callable[[str], str]) -> Logged:
    texts = {}
    for n, message in enumerate(request.messages):
        if message.get("role") in _SYSTEM:
            old = text_of(message)
            if (new := change(old)) != old:
                texts[n] = new
    return request.with_texts(texts)


def whitespace(log: Log) -> list[Logged]:
    """One form of white space, line ends and Unicode everywhere in the static messages."""
    cache: dict[str, str] = {}

    def normal(text: str) -> str:
        if text not in cache:
            plain = unicodedata.normalize("NFC", text.removeprefix("\ufeff"))
            cache[text] = re.sub(r"\s+", " ", plain).strip()
        return cache[text]

    return [_map_system(r, normal) for r in log]


def tool_order(log: Log) -> list[Logged]:
    """Tools by name."""
    return [replace(r, tools=tuple(sorted(r.tools, key=_tool_name))) if r.tools else r for r in log]


def key_order(log: Log) -> list[Logged]:
    """Tool schemas with their keys sorted."""
    cache: dict[str, str] = {}

    def canonical(tool: Any) -> str:
        if isinstance(tool, str):
            return tool
        plain = json.dumps(tool)
        if plain not in cache:
            cache[plain] = json.dumps(tool, sort_keys=True, separators=(",", ":"))
        return cache[plain]

    return [replace(r, tools=tuple(canonical(t) for t in r.tools)) if r.tools else r for r in log]


def tools_fixed(log: Log) -> list[Logged]:
    """Every request with all the tools that any of them has, in the order of first use."""
    everything: dict[str, Any] = {}
    for request in log:
        for tool in request.tools:
            everything.setdefault(_tool_name(tool), tool)
    fixed = tuple(everything.values())
    names = set(everything)
    return [
        replace(r, tools=fixed) if r.tools and {_tool_name(t) for t in r.tools} != names else r
        for r in log
    ]


def _tool_name(tool: Any) -> str:
    if isinstance(tool, str):
        found = re.search(r'"name":\s*"([^"]*)"', tool)
        return found[1] if found else tool
    return (
        str((tool.get("function") or tool).get("name", "")) if isinstance(tool, dict) else str(tool)
    )


def replayed_bytes(log: Log) -> list[Logged]:
    """Tool calls and results in one canonical form."""

    def canonical(message: dict[str, Any]) -> dict[str, Any]:
        made = dict(message)
        if calls := message.get("tool_calls"):
            made["tool_calls"] = [_canonical_call(c) for c in calls]
        if message.get("role") == "tool":
            made["content"] = _canonical_json(text_of(message))
        return made

    return [
        replace(r, messages=tuple(canonical(m) for m in r.messages))
        if any(m.get("tool_calls") or m.get("role") == "tool" for m in r.messages)
        else r
        for r in log
    ]


def _canonical_call(call: Any) -> Any:
    if not isinstance(call, dict) or not isinstance(call.get("function"), dict):
        return call
    function = call["function"]
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    kept = {"id": call.get("id"), "name": function.get("name")}
    return {**kept, "arguments": _canonical_json(text)}


def _canonical_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text


def cache_key(log: Log) -> list[Logged]:
    """Without salts and cache keys, where they are too many to be those of tenants."""
    keys = {r.key for r in log}
    if len(keys) < max(3, len(log) // 2):
        return list(log)
    return [replace(r, key="") for r in log]


def _blocks(text: str) -> list[str]:
    return [b for b in re.split(r"\n\s*\n|\n(?=\W{0,2}(?:\[\d+\]|<doc|###? ))", text) if b.strip()]


def _bare(block: str) -> str:
    return _NUMBERED.sub("", block.strip(), count=1)


def _frequency(log: Log) -> Counter[str]:
    """In how many requests each block of text stands."""
    found: Counter[str] = Counter()
    cache: dict[str, set[str]] = {}
    for request in log:
        for message in request.messages:
            text = text_of(message)
            if text not in cache:
                cache[text] = {_bare(b) for b in _blocks(text)}
            found.update(cache[text])
    return found


def static_first(log: Log) -> list[Logged]:
    """In every message the blocks that most requests have before those that change."""
    frequency, least = _frequency(log), max(2, STATIC_SHARE * len(log))

    def reorder(text: str) -> str:
        blocks = _blocks(text)
        static = [b for b in blocks if frequency[_bare(b)] >= least]
        other = [b for b in blocks if frequency[_bare(b)] < least]
        if not static or not other or blocks == static + other:
            return text
        moved = sum(len(b) for b in static[_leading(blocks, static) :])
        return "\n\n".join(static + other) if moved >= MIN_BLOCK_CHARACTERS else text

    return _map_messages(log, reorder)


def _leading(blocks: list[str], static: list[str]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(blocks, static, strict=False)) if a != b), len(static)
    )


def ordered(log: Log, examples: bool) -> list[Logged]:
    """Blocks that come in more than one order sorted: documents, or (`examples`) examples."""
    frequency = _frequency(log)

    def reorder(text: str) -> str:
        blocks = _blocks(text)
        movable = [
            i
            for i, b in enumerate(blocks)
            if len(b) >= MIN_BLOCK_CHARACTERS
            and frequency[_bare(b)] >= 2
            and bool(_EXAMPLE.match(b.strip())) is examples
        ]
        if len(movable) < 2:
            return text
        by_use = sorted(
            {_bare(blocks[i]) for i in movable}, key=lambda b: (-frequency[b], _digest(b))
        )
        made = list(blocks)
        for i, block in zip(movable, by_use, strict=False):
            made[i] = block
        return "\n\n".join(made)

    return _map_messages(log, reorder)


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _map_messages(log: Log, change: Callable[[str], str]) -> list[Logged]:
    """`change` on the system messages and the first user message."""
    cache: dict[str, str] = {}
    found = []
    for request in log:
        texts, users = {}, 0
        for n, message in enumerate(request.messages):
            role = message.get("role")
            users += role == "user"
            if role in _SYSTEM or (role == "user" and users == 1):
                old = text_of(message)
                if old not in cache:
                    cache[old] = change(old)
                if cache[old] != old:
                    texts[n] = cache[old]
        found.append(request.with_texts(texts))
    return found


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
            places[_digest(json.dumps(message, sort_keys=True))] = (number, n)
        made.append(replace(request, messages=(*request.messages[:head], *turns)))
    return made


def _leading_system(request: Logged) -> Sequence[dict[str, Any]]:
    found = []
    for message in request.messages:
        if message.get("role") not in _SYSTEM:
            break
        found.append(message)
    return found


def _cut_off(
    made: list[Logged], places: dict[str, tuple[int, int]], turns: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The turns that an earlier request had before the first two of `turns`."""
    place = places.get(_digest(json.dumps(turns[0], sort_keys=True)))
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
        session = _digest(json.dumps(turns[0], sort_keys=True))
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
    changed = [i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
    # The last common turn must be the same: else it is another conversation, not a rewritten one.
    if not changed or changed[-1] >= len(old) - 1:
        return request
    for i in changed:
        new[i] = old[i]
    return replace(request, messages=(*request.messages[:head], *new))


CORRECTIONS: dict[str, Callable[[Log], list[Logged]]] = {
    "cache-key": cache_key,
    "tools-changed": tools_fixed,
    "tool-order": tool_order,
    "key-order": key_order,
    "volatile-time": _masked("time"),
    "volatile-id": _masked("id"),
    "volatile-random": _masked("random"),
    "volatile-counter": _masked("counter"),
    "user-in-prefix": _masked("user"),
    "whitespace": whitespace,
    "dynamic-first": static_first,
    "example-order": lambda log: ordered(log, examples=True),
    "document-order": lambda log: ordered(log, examples=False),
    "replayed-bytes": replayed_bytes,
    "history-truncated": whole_history,
    "history-rewritten": kept_history,
}
"""By rule, in the order in which they are applied together."""
