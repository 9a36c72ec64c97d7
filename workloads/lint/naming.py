"""The cause of a divergence, where a rule knows it: looked for in the two texts that part, and in
what both requests have elsewhere. Else the place and the texts say all that is known."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aot.configs.kernel.chains import common
from aot.workloads.lint import volatile
from aot.workloads.lint.divergence import Divergence, tool_name
from aot.workloads.lint.seen import REASONING, SALTS, TOOLS, Part, Seen
from aot.workloads.lint.units import common_ends

SHOWN = 30
"""Characters of a text behind the place, and two thirds of that before it."""
WINDOW = 240
"""Characters around the place in which labels are looked for."""
CLEARED = 0.5
"""A tool result that is shorter than this share of what it was has been cleared or cut."""
_DOCUMENT = re.compile(
    r"(?i)\W{0,3}(?:doc(?:ument)?|passage|chunk|source|section|context|result|article)s?\b|\[\d+\]"
)
_EXAMPLE = re.compile(
    r"(?i)^\W{0,3}(?:example|shot|q(?:uestion)?|input|user|human|customer|text|review)\b.{0,12}[:#\d]"
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Named:
    """A cause. `path` is the place in the later request, `before` and `now` the texts around it;
    `more` is what else there is to say. `bound`: what it costs is what would be gained at best."""

    rule: str
    path: str
    before: str
    now: str
    more: str = ""
    bound: bool = False


class Namer:
    """Names the divergences of one log."""

    def __init__(self, log: Sequence[Seen]) -> None:
        self._log = log

    def name(self, place: Divergence) -> Named:
        """The cause of one."""
        now, before = self._log[place.request], self._log[place.before]
        if place.at is None:
            return _apart(before, now)
        path = _path(now.parts, place.at)
        if not path.startswith(TOOLS) and _path(before.parts, place.at).startswith(TOOLS):
            path = _path(before.parts, place.at)
        old, new = _text(before.parts, place.at), _text(now.parts, place.at)
        if path.startswith(TOOLS):
            found = self._tools(before, now, old, new)
        elif place.at < min(now.head, before.head) or place.at >= len(now.parts) - 1:
            found = self._static(before.parts, now.parts, place.at)
        else:
            found = self._history(before, now, place.at)
        rule, more = found
        begin, _ = common_ends(old, new)
        bound = rule in ("dynamic-first", "varying-text", "user-in-prefix")
        return Named(rule, path, _around(old, begin), _around(new, begin), more, bound)

    def _tools(self, before: Seen, now: Seen, old: str, new: str) -> tuple[str, str]:
        first, second = (_tools_of(r) for r in (before, now))
        names, others = ([tool_name(t) for t in tools] for tools in (first, second))
        if Counter(names) != Counter(others):
            gone, come = Counter(names) - Counter(others), Counter(others) - Counter(names)
            words = [f"without {', '.join(gone)}"] if gone else []
            words += [f"with {', '.join(come)}"] if come else []
            return "tools-changed", " and ".join(words)
        if Counter(first) == Counter(second):
            return "tool-order", ""
        if sorted(map(_canonical, first)) == sorted(map(_canonical, second)):
            return ("key-order", "") if names == others else ("tool-order", "and their keys")
        changed = next((n for n, a in zip(others, second, strict=True) if a not in first), "")
        return self._volatile(old, new) or "tool-text", f"in {changed}"

    def _static(self, before: Sequence[Part], now: Sequence[Part], at: int) -> tuple[str, str]:
        path, old, new = _path(now, at), _text(before, at), _text(now, at)
        if path.endswith(".role") and _path(before, at) == path:
            return "role-changed", ""
        if _normal(old) == _normal(new):
            return "whitespace", ""
        if kind := self._volatile(old, new):
            return kind, ""
        if Counter(_WORD.findall(old)) == Counter(_WORD.findall(new)):
            return self._order(old, new), ""
        begin, end = common_ends(old, new)
        spans = [text[begin : len(text) - end] for text in (old, new)]
        several = any("\n" in span.strip("\n") or not span for span in spans)
        instructions = path.startswith(("messages[0]", "system", "instructions", "prompt"))
        return ("varying-text" if instructions and not several else "dynamic-first"), ""

    def _order(self, old: str, new: str) -> str:
        begin, _ = common_ends(old, new)
        line = new.rfind("\n", 0, begin) + 1
        around = new[max(0, begin - SHOWN) : begin + SHOWN]
        if _EXAMPLE.search(new[line : line + SHOWN]):
            return "example-order"
        return "document-order" if _DOCUMENT.search(around) else "list-order"

    @staticmethod
    def _volatile(old: str, new: str) -> str | None:
        """The kind of text that differs at the place, by its label or its form."""
        begin = common(old, new)
        for text in (new, old):
            start = text.rfind("\n", 0, max(0, text.rfind("\n", 0, begin))) + 1
            start = max(start, begin - WINDOW)
            near = text[start : begin + WINDOW]
            if kind := kind_at(near, begin - start):
                return kind
        return None

    def _history(self, before: Seen, now: Seen, at: int) -> tuple[str, str]:
        path, old, new = _path(now.parts, at), _text(before.parts, at), _text(now.parts, at)
        field = path.rsplit(".", 1)[-1]
        if field in ("id", "tool_call_id", "call_id"):
            return "call-ids", ""
        if field in REASONING or _path(before.parts, at).rsplit(".", 1)[-1] in REASONING:
            return "reasoning-changed", ""
        if _path(before.parts, at) == path and _same_json(old, new):
            return "replayed-bytes", ""
        if moved := _moved(before, now, at):
            return moved, ""
        if _path(before.parts, at) == path and _is_result(now.parts, at) and (
            len(new) < CLEARED * len(old)
        ):  # fmt: skip
            return "history-rewritten", "a tool result was cleared"
        rest = "".join(text for _, text in now.parts[at + 1 :])
        taken = self._taken(old, new)
        if len(taken) > 2 * SHOWN and taken in rest:
            return "document-moves", ""
        kind = self._volatile(old, new) if _path(before.parts, at) == path else None
        return (kind, "in an earlier message") if kind else ("history-rewritten", "")

    @staticmethod
    def _taken(old: str, new: str) -> str:
        """What an earlier message has lost."""
        begin, end = common_ends(old, new)
        return old[begin : len(old) - end].strip()


def kind_at(text: str, at: int) -> str | None:
    """Of what is filled in anew there."""
    for pattern in (*volatile.LABELLED, *volatile.BARE):
        for match in pattern.regex.finditer(text):
            if match.start("value") <= at <= match.end("value"):
                return "user-in-prefix" if pattern.kind == "user" else f"volatile-{pattern.kind}"
    lines = volatile.USER_LINE.finditer(text)
    return "user-in-prefix" if any(m.start() <= at <= m.end() for m in lines) else None


def _apart(before: Seen, now: Seen) -> Named:
    """Another cache: which field says so, and what it was."""
    names = [k for k in {**before.apart, **now.apart} if before.apart.get(k) != now.apart.get(k)]
    name = names[0]
    rule = "template-arguments"
    if name in SALTS:
        rule = "cache-key"
    elif name in ("model", "lora_name", "lora_path", "adapter"):
        rule = "model-changes"
    old, new = (r.apart.get(name, "") for r in (before, now))
    return Named(rule, name, old[: 3 * SHOWN], new[: 3 * SHOWN])


def _moved(before: Seen, now: Seen, at: int) -> str | None:
    """Turns that stand elsewhere now: the front of a history was cut, or examples are shuffled."""
    old = {t: n for n, (_, t) in enumerate(before.parts[at:]) if len(t) > 2 * SHOWN}
    places = [old[t] for _, t in now.parts[at:] if t in old]
    if not places:
        return None
    if places != sorted(places):  # a conversation grows, examples are as many
        grows = len(now.parts) > len(before.parts)
        return None if grows else "example-order"
    first = next((n for n, (_, t) in enumerate(now.parts[at:]) if t in old), 0)
    return "history-truncated" if places[0] > first else None


def _is_result(parts: Sequence[Part], at: int) -> bool:
    """Whether a part is of what a tool has said."""
    message = _path(parts, at).split(".")[0]
    return (f"{message}.role", "tool") in parts or "tool_result" in _text(parts, at)


def _tools_of(request: Seen) -> list[str]:
    return [text for path, text in request.parts if path.startswith(TOOLS)]


def _path(parts: Sequence[Part], at: int) -> str:
    return parts[at][0] if at < len(parts) else parts[-1][0]


def _text(parts: Sequence[Part], at: int) -> str:
    return parts[at][1] if at < len(parts) else ""


def _around(text: str, at: int) -> str:
    return text[max(0, at - 2 * SHOWN // 3) : at + SHOWN]


def _normal(text: str) -> str:
    """Without what nobody sees: white space, line ends, forms of Unicode."""
    plain = unicodedata.normalize("NFC", text.removeprefix("\ufeff"))
    return " ".join(re.sub("[\u200b\u2060\u00ad]", "", plain).split())


def _canonical(text: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except ValueError:
        return text


def _same_json(old: str, new: str) -> bool:
    """Whether two texts are one value, written in two ways."""
    if not (old[:1] in "[{" and new[:1] in "[{" and old and new):
        return False
    values: list[Any] = []
    for text in (old, new):
        try:
            values.append(json.loads(text))
        except ValueError:
            return False
    return bool(values[0] == values[1])
