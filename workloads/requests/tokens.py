"""Count tokens as the engine does: the model's own chat template and tokenizer, without torch.

A count made here is independent of the server, so that a planned and a served count that agree
mean something.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from aot.configs.dialects.dialect import joined
from aot.configs.kernel.errors import UsageError
from aot.workloads.requests.request import Message, Tools


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """Chat messages → token ids, by the files of a model folder."""

    template: str | None
    """None: a model without one, whose prompts are the texts of the messages."""
    special: dict[str, str]
    tokenizer: Tokenizer
    clock: Callable[[], datetime] = datetime.now
    """What a chat template that asks for the time is told."""

    def tomorrow(self) -> ChatTokenizer:
        """The same, a day later: what differs then is a date in the template."""
        return replace(self, clock=lambda: datetime.now() + timedelta(days=1))

    def count(self, text: str) -> int:
        """Tokens of a text alone."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def encode(self, messages: Sequence[Message], tools: Tools = ()) -> list[int]:
        """Token ids of the rendered chat with the assistant's opening appended."""
        return self.encode_many([(messages, tools)])[0]

    def encode_many(self, chats: Sequence[tuple[Sequence[Message], Tools]]) -> list[list[int]]:
        """Token ids of each chat; on all cores."""
        texts = [self.render(messages, tools) for messages, tools in chats]
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

    def render(self, messages: Sequence[Message], tools: Tools = ()) -> str:
        """The prompt text. Raises UsageError when the template refuses the messages."""
        if self.template is None:
            return joined(messages)
        try:
            return _compiled(self.template, self.clock).render(
                messages=list(messages),
                add_generation_prompt=True,
                tools=list(tools) or None,
                **self.special,
            )
        except TemplateError as error:
            raise UsageError(f"the model's chat template refuses the messages: {error}") from None


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
    if not isinstance(template, str):
        if not plain:
            return None
        template = None
    return ChatTokenizer(template, _special_tokens(config), Tokenizer.from_file(str(vocabulary)))


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


def _jinja(clock: Callable[[], datetime]) -> ImmutableSandboxedEnvironment:
    """What transformers renders chat templates in (utils/chat_template_utils.py)."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: object, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda fmt: clock().strftime(fmt)
    return env
