"""Request bodies, built before the clock starts: only a real answer is put in when it is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aot.configs.dialects.dialect import Asked, Render, joined
from aot.configs.dialects.wording import USUAL, Wording
from aot.configs.kernel.routing import routing_key
from aot.configs.kernel.salts import Salts, tenant_salt
from aot.workloads.requests.request import Message, Prefix, Request, Schedule

MARK = "\ue000"
"""Stands where something is put in later: of the private use area, as no prompt has it."""


class Bodies:
    """The bodies of a schedule's requests, in pieces that are joined when one is sent.

    A static prefix is kept once for all its requests, so that a schedule of long prompts stays
    small in memory. `render` is needed where texts are sent.
    """

    def __init__(
        self,
        schedule: Schedule,
        model: str,
        salts: Salts | None,
        key_header: str | None = None,
        tenant_salts: bool = False,
        wording: Wording = USUAL,
        render: Render = joined,
    ) -> None:
        self._schedule, self._salts, self._tenant_salts = schedule, salts, tenant_salts
        self._model, self._wording, self._render = model, wording, render
        self._keys = {
            p: f"{key_header}: {routing_key(p)}\r\n".encode() if key_header else b""
            for p in schedule.prefixes
        }
        self._item = wording.dialect.item
        build = self._text if self._item is None else self._around
        self._heads: dict[str, bytes] = {}
        self._shared: dict[str, int] = {}
        """Of a body with a text: how many bytes it has in common with the head."""
        self._ends: dict[tuple[str, int, str | None], bytes] = {}
        self._pieces = {r.id: build(r) for r in schedule.requests}

    def of(self, request: Request, answers: Mapping[str, str]) -> bytes:
        """The body of `request`. `answers`: the server's own, by request."""
        if self._item is None:
            return self._of_text(request, answers)
        own, end = self._pieces[request.id]
        parts = [own]
        for id_ in self._answered(request):
            said: Message = {"role": "assistant", "content": answers[id_]}
            parts += [self._items([said]), self._pieces[id_][0]]
        head = self._heads[request.prefix]
        items = b", ".join(part for part in reversed(parts) if part)
        return b"".join((head, b"" if head.endswith(b"[") else b", ", items, end))

    @property
    def sends_ignore_eos(self) -> bool:
        return self._wording.sends_ignore_eos

    def headers(self, request: Request) -> bytes:
        """What a router may tell its static prefix by; empty where none is asked for."""
        return self._keys[request.prefix]

    def asked(self, request: Request) -> Asked:
        """What is asked for beside the prompt."""
        schedule = self._schedule
        prefix = schedule.prefixes[request.prefix]
        salt = tenant_salt(prefix.id, prefix.salt, self._tenant_salts)
        return Asked(
            self._model,
            max(schedule.output_tokens(request), self._wording.dialect.least_tokens),
            stream=True,
            ignore_eos=schedule.ignore_eos,
            salt=self._salts.of(request.id, salt) if self._salts else salt,
            tools=prefix.tools,
        )

    def _around(self, request: Request) -> tuple[bytes, bytes]:
        """A request's own messages, and what stands behind the list of all of them."""
        asked = self.asked(request)
        key = (request.prefix, asked.max_tokens, asked.salt)
        if key not in self._ends:
            head, self._ends[key] = self._cut(self._schedule.prefixes[request.prefix], asked)
            self._heads.setdefault(request.prefix, head)
        return self._items(request.messages), self._ends[key]

    def _cut(self, prefix: Prefix, asked: Asked) -> tuple[bytes, bytes]:
        """The body around a message that stands for all behind the static prefix."""
        mark: Message = {"role": "user", "content": MARK}
        body = _json(self._wording.body([*prefix.messages, mark], asked))
        head, _, end = body.partition(self._items([mark]))
        return head.removesuffix(b", "), end

    def _items(self, messages: Sequence[Message]) -> bytes:
        assert self._item is not None
        return b", ".join(_json(self._item(m)) for m in messages)

    def _text(self, request: Request) -> tuple[bytes, bytes]:
        """A body whose prompt is one text, with marks for the answers in it: what is behind the
        part that it has in common with the first body of its static prefix."""
        marks = {id_: _mark(n) for n, id_ in enumerate(self._answered(request))}
        chat = self._schedule.chat_of(request, marks)
        text = self._render(chat.messages, chat.tools)
        body = _json(self._wording.body(text, self.asked(request)))
        shared = _common(self._heads.setdefault(request.prefix, body), body)
        self._shared[request.id] = shared
        return body[shared:], b""

    def _of_text(self, request: Request, answers: Mapping[str, str]) -> bytes:
        shared = self._heads[request.prefix][: self._shared[request.id]]
        body = shared + self._pieces[request.id][0]
        for n, id_ in enumerate(self._answered(request)):
            body = body.replace(_mark(n).encode(), _json(answers[id_])[1:-1])
        return body

    def _answered(self, request: Request) -> list[str]:
        """The requests whose answers are in the history of this one."""
        turns, turn = [], request
        while turn.appends and turn.after is not None:
            turns.append(turn.after)
            turn = self._schedule.by_id[turn.after]
        return turns


def _common(one: bytes, other: bytes) -> int:
    """Bytes that both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _mark(number: int) -> str:
    return f"{MARK}{number}{MARK}"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
