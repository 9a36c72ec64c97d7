"""What a log would look like without one flaw: each rule's correction of all requests.

Pure functions of the whole log. A correction that changes nothing returns equal requests.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from aot.workloads.corrections.histories import digest, example_turns, kept_history, whole_history
from aot.workloads.corrections.logged import Logged, text_of
from aot.workloads.corrections.tools import (
    key_order,
    numbered_calls,
    replayed_bytes,
    tool_order,
    tools_fixed,
)
from aot.workloads.lint import volatile
from aot.workloads.lint.seen import SYSTEM

Log = Sequence[Logged]
STATIC_SHARE = 0.5
DYNAMIC_SHARE = 0.1
"""A block of text in more than the first share of the requests is static, in less than the second
dynamic; between them are tenants and the like."""
RARE_SHARE = 0.15
"""A line of a system message in less than this share of the requests is one that changes."""
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


def _masked(kind: volatile.Class) -> Callable[[Log], list[Logged]]:
    patterns = [p for p in (*volatile.LABELLED, *volatile.BARE) if p.kind == kind]
    cache: dict[str, str] = {}

    def mask(text: str) -> str:
        if text not in cache:
            blanked = volatile.blank(text, tuple(patterns))
            cache[text] = volatile.USER_LINE.sub("<user>", blanked) if kind == "user" else blanked
        return cache[text]

    return lambda log: [_map_static(r, mask) for r in log]


def _map_system(request: Logged, change: Callable[[str], str]) -> Logged:
    texts = {}
    for n, message in enumerate(request.messages):
        if message.get("role") in SYSTEM:
            old = text_of(message)
            if (new := change(old)) != old:
                texts[n] = new
    return request.with_texts(texts)


def _map_static(request: Logged, change: Callable[[str], str]) -> Logged:
    """`change` on the system messages and the tools."""
    tools = tuple(change(t) for t in request.tools)
    changed = _map_system(request, change)
    return changed if tools == request.tools else replace(changed, tools=tools)


def whitespace(log: Log) -> list[Logged]:
    """One form of white space, line ends and Unicode everywhere in the static messages."""
    cache: dict[str, str] = {}

    def normal(text: str) -> str:
        if text not in cache:
            plain = unicodedata.normalize("NFC", text.removeprefix("\ufeff"))
            lines = (" ".join(line.split()) for line in plain.splitlines())
            # Paragraphs stay: other corrections go by them.
            cache[text] = re.sub(r"\n{2,}", "\n\n", "\n".join(lines)).strip()
        return cache[text]

    return [_map_system(r, normal) for r in log]


def cache_key(log: Log) -> list[Logged]:
    """Without salts and cache keys, where they are too many to be those of tenants."""
    keys = {r.key for r in log}
    if len(keys) < max(3, len(log) // 2):
        return list(log)
    return [replace(r, key="") for r in log]


@lru_cache(maxsize=100_000)
def _blocks(text: str) -> list[str]:
    return [
        b
        for b in re.split(r"\n\s*\n|\n(?=\W{0,2}(?:\[\d+\]|###? ))|(?=<doc(?:ument)?\b)", text)
        if b.strip()
    ]


def _bare(block: str) -> str:
    return _NUMBERED.sub("", block.strip(), count=1)


def _frequency(log: Log) -> tuple[Counter[str], set[str]]:
    """In how many requests each block of text stands, and which stand now here, now there."""
    frequency: Counter[str] = Counter()
    places: dict[str, int] = {}
    moving: set[str] = set()
    cache: dict[str, set[str]] = {}
    for request in log:
        for _, text in _openings(request):
            if text not in cache:
                blocks = [_bare(b) for b in _blocks(text)]
                cache[text] = set(blocks)
                moving |= {b for i, b in enumerate(blocks) if places.setdefault(b, i) != i}
            frequency.update(cache[text])
    return frequency, moving


def static_first(log: Log) -> list[Logged]:
    """In every message the blocks that most requests have before those that change."""
    (frequency, _), count = _frequency(log), len(log)

    def reorder(text: str) -> str:
        blocks = _blocks(text)
        dynamic = [b for b in blocks if frequency[_bare(b)] < max(2, DYNAMIC_SHARE * count)]
        static = [b for b in blocks if b not in dynamic]
        common = any(frequency[_bare(b)] >= STATIC_SHARE * count for b in static)
        if not common or not dynamic or blocks == static + dynamic:
            return text
        moved = sum(len(b) for b in static[_leading(blocks, static) :])
        return "\n\n".join(static + dynamic) if moved >= MIN_BLOCK_CHARACTERS else text

    return _map_messages(log, reorder)


def varying_lines(log: Log) -> list[Logged]:
    """System messages with the lines that few requests have behind those that most have."""
    count = len(log)
    frequency: Counter[str] = Counter()
    for request in log:
        frequency.update(
            {
                x
                for m in request.messages
                if m.get("role") in SYSTEM
                for x in text_of(m).splitlines()
            }
        )

    def reorder(text: str) -> str:
        lines = text.splitlines()
        rare = [x for x in lines if x.strip() and frequency[x] < max(2, RARE_SHARE * count)]
        kept = [x for x in lines if x not in rare]
        if not rare or not any(frequency[x] >= STATIC_SHARE * count for x in kept if x.strip()):
            return text
        return "\n".join([*kept, *rare])

    return [_map_system(r, reorder) for r in log]


def _leading(blocks: list[str], static: list[str]) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(blocks, static, strict=False)) if a != b), len(static)
    )


def ordered(log: Log, examples: bool) -> list[Logged]:
    """Blocks that come in more than one order sorted: documents, or (`examples`) examples."""
    frequency, moving = _frequency(log)

    def reorder(text: str) -> str:
        blocks = _blocks(text)
        movable = [
            i
            for i, b in enumerate(blocks)
            if len(b) >= MIN_BLOCK_CHARACTERS
            and frequency[_bare(b)] >= 2
            and _bare(b) in moving
            and bool(_EXAMPLE.match(b.strip())) is examples
        ]
        if len(movable) < 2:
            return text
        by_use = sorted(
            {_bare(blocks[i]) for i in movable}, key=lambda b: (-frequency[b], digest(b))
        )
        reordered = list(blocks)
        for i, block in zip(movable, by_use, strict=False):
            reordered[i] = block
        return "\n\n".join(reordered)

    return _map_messages(log, reorder)


def _openings(request: Logged) -> Iterator[tuple[int, str]]:
    """The system messages and the first user message: where instructions and documents are."""
    users = 0
    for n, message in enumerate(request.messages):
        role = message.get("role")
        users += role == "user"
        if role in SYSTEM or (role == "user" and users == 1):
            yield n, text_of(message)


def _map_messages(log: Log, change: Callable[[str], str]) -> list[Logged]:
    """`change` on the system messages and the first user message."""
    cache: dict[str, str] = {}
    requests = []
    for request in log:
        texts = {}
        for n, old in _openings(request):
            if old not in cache:
                cache[old] = change(old)
            if cache[old] != old:
                texts[n] = cache[old]
        requests.append(request.with_texts(texts))
    return requests


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
    "example-order": lambda log: example_turns(ordered(log, examples=True)),
    "document-order": lambda log: ordered(log, examples=False),
    "replayed-bytes": replayed_bytes,
    "history-truncated": whole_history,
    "history-rewritten": kept_history,
    "document-moves": kept_history,
    "call-ids": numbered_calls,
    "varying-text": varying_lines,  # last: what none of the others explains
}
"""By rule, in the order in which they are applied together."""
