"""The kinds of endpoints, by name."""

from __future__ import annotations

from typing import Literal

from aot.configs.dialects.chat import ChatDialect
from aot.configs.dialects.completions import CompletionsDialect
from aot.configs.dialects.dialect import Dialect
from aot.configs.dialects.generate import GenerateDialect
from aot.configs.dialects.messages import MessagesDialect
from aot.configs.dialects.responses import ResponsesDialect

EndpointName = Literal["chat", "completions", "responses", "messages", "generate"]

DIALECTS: dict[str, Dialect] = {
    d.name: d
    for d in (
        ChatDialect(),
        CompletionsDialect(),
        ResponsesDialect(),
        MessagesDialect(),
        GenerateDialect(),
    )
}
