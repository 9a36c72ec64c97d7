"""Request bodies, built before the clock starts: only a real answer is put in when it is known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from aot.configs.kernel.routing import routing_key
from aot.configs.kernel.salts import Salts, tenant_salt
from aot.workloads.requests.request import Message, Request, Schedule


class Bodies:
    """The bodies of a schedule's requests, in pieces that are joined when one is sent.

    A static prefix is serialised once for all its requests, so that a schedule of long prompts
    stays small in memory.
    """

    def __init__(
        self,
        schedule: Schedule,
        model: str,
        salts: Salts | None,
        key_header: str | None = None,
        tenant_salts: bool = False,
    ) -> None:
        self._schedule, self._salts, self._tenant_salts = schedule, salts, tenant_salts
        self._keys = {
            p: f"{key_header}: {routing_key(p)}\r\n".encode() if key_header else b""
            for p in schedule.prefixes
        }
        self._head = b'{"model": ' + _json(model) + b', "messages": ['
        self._prefixes = {p.id: _messages(p.messages) for p in schedule.prefixes.values()}
        self._tools = {p.id: p.tools for p in schedule.prefixes.values()}
        self._own = {r.id: _messages(r.messages) for r in schedule.requests}
        self._ends = {r.id: self._end(r) for r in schedule.requests}

    def of(self, request: Request, answers: Mapping[str, bytes]) -> bytes:
        """The body of `request`. `answers` are `serialised` answers, by request."""
        parts = [self._own[request.id]]
        turn = request
        while turn.appends and turn.after is not None:
            parts.append(answers[turn.after])
            turn = self._schedule.by_id[turn.after]
            parts.append(self._own[turn.id])
        parts.append(self._prefixes[request.prefix])
        messages = b", ".join(part for part in reversed(parts) if part)
        return b"".join((self._head, messages, self._ends[request.id]))

    def headers(self, request: Request) -> bytes:
        """What a router may tell its static prefix by; empty where none is asked for."""
        return self._keys[request.prefix]

    def _end(self, request: Request) -> bytes:
        schedule = self._schedule
        rest: dict[str, Any] = {
            "max_tokens": schedule.output_tokens(request),
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if schedule.ignore_eos:
            rest["ignore_eos"] = True
        if tools := self._tools[request.prefix]:
            # Shown to the model, not called: no engine needs a parser for that.
            rest |= {"tools": tools, "tool_choice": "none"}
        own = schedule.prefixes[request.prefix].salt
        salt = tenant_salt(request.prefix, own, self._tenant_salts)
        if self._salts:
            rest["cache_salt"] = self._salts.of(request.id, salt)
        elif salt:
            rest["cache_salt"] = salt
        return b"], " + _json(rest)[1:]


def serialised(answer: str) -> bytes:
    """A server's answer as it stands in the history of the next turn."""
    return _json({"role": "assistant", "content": answer})


def _messages(messages: Sequence[Message]) -> bytes:
    return b", ".join(map(_json, messages))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
