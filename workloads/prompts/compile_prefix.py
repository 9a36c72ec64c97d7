"""A static prefix of planned traffic → a compiled prompt, by the tokens that its requests share."""

from __future__ import annotations

import json

from aot.workloads.prompts.compile import STRANGER, Target, measured, segment
from aot.workloads.prompts.compiled import Compiled
from aot.workloads.requests.request import Message, Prefix, Schedule, Tools
from aot.workloads.requests.static_part import sampled_requests, static_part
from aot.workloads.requests.tokens import ChatParts, common_prefix


def compile_prefix(schedule: Schedule, prefix: Prefix, target: Target) -> Compiled:
    """Compile one static prefix of planned traffic: what its probes and its requests share."""
    static, dynamic = list(prefix.messages), [*map(list, prefix.probes)]
    own = [
        [*static, *r.messages] if r.body is None else schedule.chat_of(r).messages
        for r in sampled_requests(schedule, prefix.id)
    ]
    stranger: Message = {"role": "system", "content": STRANGER}
    first = [*static, *dynamic[0]]

    def parts(chat: list[Message], tools: Tools) -> ChatParts:
        return (chat, tools, prefix.arguments) if prefix.arguments else (chat, tools)

    chats = [[*static, *messages] for messages in dynamic] + own
    *prompts, stranger_ids, bare = target.encode(
        [
            *(parts(chat, prefix.tools) for chat in chats),
            parts([stranger, *dynamic[0]], prefix.tools),
            parts(first, ()),
        ]
    )
    ids = static_part(prompts)
    frame = min(common_prefix(stranger_ids, ids), len(ids))
    tools = (len(prompts[0]) - len(bare)) or None if prefix.tools else None
    text = "\n".join(str(m["content"]) for m in static)
    segments = [segment("static messages", "system", None, len(ids) - frame, text)]
    if prefix.tools:
        shown = json.dumps(list(prefix.tools), indent=1, ensure_ascii=False)
        segments.append(segment("tools", "tools", None, tools, shown))
    # Where the template writes tools first, they are in what any two chats with them share.
    rest = frame - (tools or 0)
    return Compiled(
        prompt=schedule.name,
        variables={"prefix": prefix.id},
        **measured(prompts, ids, target),
        segments=[*segments, segment("chat template and openings", "frame", None, rest, "")],
        templates=[],
        messages=static,
        tools=list(prefix.tools),
        probes=(dynamic[0], dynamic[1]),
    )
