"""Request bodies, built before the clock starts: only a real answer is put in when it is known."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from aot.configs.dialects.dialect import Asked, Render, joined
from aot.configs.dialects.wording import USUAL, Wording
from aot.configs.kernel.chains import common
from aot.configs.kernel.routing import routing_key
from aot.configs.kernel.salts import Salts, tenant_salt
from aot.workloads.requests.request import Message, Request, Schedule

MARK = "\ue000"
"""Stands where something is put in later: of the private use area, as no prompt has it."""
SALT = "\ue001"


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
        self._heads: dict[Hashable, bytes] = {}
        self._shared: dict[str, int] = {}
        """Of a body with a text: how many bytes it has in common with the head."""
        self._ends: dict[tuple[str, int], bytes] = {}
        """By static prefix and length of the answer, with a mark where the salt goes: it is each
        request's own in jit."""
        self._pieces = {r.id: build(r) for r in schedule.requests if r.body is None}
        self._logged = {r.id: self._as_sent(r) for r in schedule.requests if r.body is not None}

    def of(self, request: Request, answers: Mapping[str, str]) -> bytes:
        """The body of `request`. `answers`: the server's own, by request."""
        if request.body is not None:
            return self._logged[request.id]
        if self._item is None:
            return self._of_text(request, answers)
        own, end = self._pieces[request.id]
        parts, first = [own], request
        for id_ in self._answered(request):
            first = self._schedule.by_id[id_]
            said: Message = {"role": "assistant", "content": answers[id_]}
            parts += [self._items([said]), self._pieces[id_][0]]
        head = self._heads[self._head_of(first)]
        if salt := self.asked(request).salt:
            end = end.replace(SALT.encode(), salt.encode())
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

    def _as_sent(self, request: Request) -> bytes:
        """A logged body, but for the model's name, streaming and the cache salt of the arm."""
        assert request.body is not None
        asked, body = self.asked(request), dict(request.body)
        if "model" in body or self._model:
            body["model"] = self._model
        body["stream"] = True
        if (request.endpoint or self._schedule.endpoint) in ("chat", "completions"):
            body["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
        if asked.salt:
            body["cache_salt"] = asked.salt
        return _json(self._wording.logged(body))

    def _around(self, request: Request) -> tuple[bytes, bytes]:
        """A request's own messages, and what stands behind the list of all of them."""
        head_key, asked = self._head_of(request), self.asked(request)
        end_key = (request.prefix, asked.max_tokens)
        lead, own = len(head_key[1]), request.messages
        if head_key not in self._heads or end_key not in self._ends:
            shared = (*self._schedule.prefixes[request.prefix].messages, *own[:lead])
            self._heads[head_key], self._ends[end_key] = self._cut(shared, asked)
        return self._items(own[lead:]), self._ends[end_key]

    def _head_of(self, request: Request) -> tuple[str, tuple[str, ...]]:
        """A static prefix, and a request's own system messages if none but such are in it: some
        endpoints have one field for all that a chat begins with."""
        prefix = self._schedule.prefixes[request.prefix].messages
        if request.appends or any(m["role"] != "system" for m in prefix):
            return request.prefix, ()
        lead = takewhile(lambda m: m["role"] == "system", request.messages)
        return request.prefix, tuple(m["content"] for m in lead)

    def _cut(self, shared: Sequence[Message], asked: Asked) -> tuple[bytes, bytes]:
        """The body around a message that stands for all behind the `shared` ones."""
        mark: Message = {"role": "user", "content": MARK}
        marked = replace(asked, salt=SALT if asked.salt else None)
        body = _json(self._wording.body([*shared, mark], marked))
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
        shared = common(self._heads.setdefault(request.prefix, body), body)
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


def _mark(number: int) -> str:
    return f"{MARK}{number}{MARK}"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
