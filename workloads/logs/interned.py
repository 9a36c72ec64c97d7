"""Equal parts of many bodies as one object: a conversation's history is in every turn that follows,
so that a log of 1 GB is held in some 100 MB."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from aot.workloads.logs.traced import Traced
from aot.workloads.requests.body import chat

GROWING = ("messages", "input")
"""Lists whose items are shared; no two requests have the same list."""


class Interned:
    """Nothing that it has returned may be changed."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def request(self, traced: Traced) -> Traced:
        """The same request, of parts that are shared with those before."""
        if traced.body is None:
            return replace(traced, messages=tuple(self._of(m) for m in traced.messages))
        body = {key: self._field(key, value) for key, value in traced.body.items()}
        messages, tools = chat(traced.endpoint, body)
        return replace(traced, body=body, messages=tuple(messages), tools=tools)

    def _field(self, key: str, value: Any) -> Any:
        if key in GROWING and isinstance(value, list):
            return [self._of(item) for item in value]
        return self._of(value)

    def _of(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._known.setdefault(value, value)
        if isinstance(value, Mapping):
            made = {self._of(k): self._of(v) for k, v in value.items()}
            name: Hashable = ("{", *((k, _name(v)) for k, v in made.items()))
            return self._known.setdefault(name, made)
        if isinstance(value, list):
            items = [self._of(item) for item in value]
            return self._known.setdefault(("[", *map(_name, items)), items)
        return value


def _name(value: Any) -> Hashable:
    """Equal for equal values only. What is held here keeps its place in memory."""
    return id(value) if isinstance(value, str | dict | list) else (type(value), value)
