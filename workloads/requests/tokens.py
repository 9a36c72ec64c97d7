"""Count tokens as the engine does: the model's own chat template and tokenizer, without torch.

A count made here is independent of the server, so that a planned and a served count that agree
mean something.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from aot.configs.dialects.dialect import joined
from aot.configs.kernel.errors import UsageError
from aot.workloads.requests.request import Message, Tools

ChatParts = tuple[Sequence[Message], Tools] | tuple[Sequence[Message], Tools, Mapping[str, Any]]
"""Messages, tools and arguments of the chat template."""


_DEFINED = re.compile(r"(\w+)\s+is\s+(?:not\s+)?defined")
"""Names of arguments that a template asks for."""
PARTS = re.compile(r"for\s+\w+\s+in\s+\w+(\.content|\[['\"]content['\"]\])")
"""Where a template goes through the parts of a message's content (vLLM looks for the same)."""


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """Chat messages → token ids, by the files of a model folder."""

    template: str | None
    """None: a model without one, whose prompts are the texts of the messages."""
    special: dict[str, str]
    tokenizer: Tokenizer
    clock: Callable[[], datetime] = datetime.now
    """What a chat template that asks for the time is told."""
    tool_template: str | None = None
    """Of a model with a template of its own for requests with tools."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of the chat template, where a request does not say otherwise."""

    def _template(self, tools: Tools) -> str | None:
        return self.tool_template if tools and self.tool_template else self.template

    def tomorrow(self) -> ChatTokenizer:
        """The same, a day later: what differs then is a date in the template."""
        return replace(self, clock=lambda: datetime.now() + timedelta(days=1))

    def with_arguments(self, arguments: Mapping[str, Any]) -> ChatTokenizer:
        """The same with arguments of the chat template for every request."""
        return replace(self, arguments={**self.arguments, **arguments})

    def dated_by(self) -> str | None:
        """The argument that pins the date which the chat template writes; empty where none does,
        None where it writes no date."""
        probe: list[Message] = [{"role": "user", "content": "A"}]
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        for tools in ((), (tool,)):
            if self.render(probe, tools) == self.tomorrow().render(probe, tools):
                continue
            for name in dict.fromkeys(_DEFINED.findall(self._template(tools) or "")):
                pinned = self.with_arguments({name: "1 Jan 2026"})
                if pinned.render(probe, tools) == pinned.tomorrow().render(probe, tools):
                    return str(name)
            return ""
        return None

    def count(self, text: str) -> int:
        """Tokens of a text alone."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(
        self, messages: Sequence[Message], tools: Tools = (), arguments: Mapping[str, Any] = {}
    ) -> list[int]:
        """Token ids of the rendered chat with the assistant's opening appended. `arguments`: of the
        chat template."""
        return self.encode_many([(messages, tools, arguments)])[0]

    def encode_many(self, chats: Sequence[ChatParts]) -> list[list[int]]:
        """Token ids of each chat; on all cores."""
        texts = [self.render(*chat) for chat in chats]
        # A template writes the special tokens itself.
        special = self.template is None
        return [e.ids for e in self.tokenizer.encode_batch_fast(texts, add_special_tokens=special)]

    def prompt_text(self, messages: Sequence[Message], tools: Tools = ()) -> str:
        """The prompt text for an endpoint that takes texts, where the tokenizer adds its own first
        token: without the one that the template writes."""
        text = self.render(messages, tools)
        added = self.tokenizer.encode("", add_special_tokens=True).tokens
        first = self.special.get("bos_token")
        return text.removeprefix(first) if first and first in added and self.template else text

    def render(
        self, messages: Sequence[Message], tools: Tools = (), arguments: Mapping[str, Any] = {}
    ) -> str:
        """The prompt text. Raises UsageError when the template refuses the messages."""
        template = self._template(tools)
        if template is None:
            return joined(messages)
        takes_parts = bool(PARTS.search(template))
        given = {**self.special, **self.arguments, **arguments}
        try:
            return _compiled(template, self.clock).render(
                messages=[_as_rendered(m, takes_parts) for m in messages],
                tools=list(tools) or None,
                **{"add_generation_prompt": True, **given},
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise UsageError(f"the model's chat template refuses the messages: {error}") from None


def _as_rendered(message: Message, takes_parts: bool) -> Message:
    """As engines hand it to a template: the text of a list of parts where it does not go through
    them itself, the arguments of calls as objects (vllm/entrypoints/chat_utils.py)."""
    content, calls = message.get("content"), message.get("tool_calls")
    if content is None:
        message = {**message, "content": ""}
    if isinstance(content, list) and not takes_parts:
        message = {**message, "content": "\n".join(map(_part_text, content))}
    if isinstance(calls, list):
        message = {**message, "tool_calls": [_call(c) for c in calls]}
    return message


def _part_text(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"]) if function["arguments"] else {}
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


@lru_cache(maxsize=8)
def _compiled(template: str, clock: Callable[[], datetime]) -> Template:
    return _jinja(clock).from_string(template)


def from_folder(folder: Path, plain: bool = False) -> ChatTokenizer | None:
    """The tokenizer of a model folder; None where the folder lacks the files for one, or, unless
    `plain` prompts are wanted, the chat template."""
    config_file, vocabulary = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not vocabulary.exists():
        return None
    config: dict[str, Any] = {}
    if config_file.exists():
        config = json.loads(config_file.read_text(encoding="utf-8"))
    template_file = folder / "chat_template.jinja"
    template = (
        template_file.read_text(encoding="utf-8")
        if template_file.exists()
        else config.get("chat_template")
    )
    named = _named_templates(folder, template)
    template = named.get("default", template)
    if not isinstance(template, str):
        if not plain:
            return None
        template = None
    return ChatTokenizer(
        template, _special_tokens(config), Tokenizer.from_file(str(vocabulary)),
        tool_template=named.get("tool_use"),
    )  # fmt: skip


def _named_templates(folder: Path, template: Any) -> dict[str, str]:
    """Of a model with several: a list of them, or files in a folder (transformers,
    tokenization_utils_base.py). "tool_use" is for requests with tools, "default" for the others."""
    files = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    named = {path.stem: path.read_text(encoding="utf-8") for path in files}
    rows = template if isinstance(template, list) else []
    return named | {str(r["name"]): str(r["template"]) for r in rows if isinstance(r, dict)}


def common_prefix(first: Sequence[object], second: Sequence[object]) -> int:
    """Length of the longest common prefix of two sequences, of tokens or of anything else."""
    for n, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return n
    return min(len(first), len(second))


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    tokens = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = config.get(name)
        value = value.get("content") if isinstance(value, dict) else value
        if isinstance(value, str):
            tokens[name] = value
    return tokens


class _Generation(Extension):
    """{% generation %}: what an assistant said, which training masks by; rendered as it is."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 has it

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _jinja(clock: Callable[[], datetime]) -> ImmutableSandboxedEnvironment:
    """What transformers renders chat templates in (utils/chat_template_utils.py)."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(
        value: object,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
            sort_keys=sort_keys,
        )  # fmt: skip

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda fmt: clock().strftime(fmt)
    return env
