"""A prompt folder → what is static in it, by the only measure that counts: the tokens.

The folder is rendered through the model's chat template with several different dynamic inputs; the
longest common token prefix is the static part, whatever the author believes. Pure: the encoder is
given, and nothing is written.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.workloads.prompts.compiled import (
    BlockHashes,
    Compiled,
    Segment,
    Spread,
    Template,
    cache_key,
)
from aot.workloads.prompts.folder import PromptFolder, StaticText
from aot.workloads.requests.request import Message, Tools
from aot.workloads.requests.static_part import sample, static_part
from aot.workloads.requests.tokens import ChatParts, common_prefix

Encode = Callable[[Sequence[ChatParts]], list[list[int]]]
"""Token ids of each chat with its tools, and arguments of the template, in order."""
Hashes = Callable[[Sequence[int], int, str | None], BlockHashes | None]

STRANGER = "\u2042"
"""A character that no prompt begins or goes on with."""

FINGERPRINT: tuple[list[Message], ...] = (
    [{"role": "user", "content": "Hello, world! 1234567890 3.14 0x1F"}],
    [
        {"role": "system", "content": "Naïve façade — “quotes”, 漢字, العربية, 🙂\r\n\ttabs"},
        {"role": "user", "content": "def f(x):\n    return x ** 2  # comment\n"},
        {"role": "assistant", "content": "  leading, trailing  "},
        {"role": "user", "content": "https://example.org/a?b=c&d=%20 <|not-special|> </s>"},
    ],
)


@dataclass(frozen=True, slots=True)
class Target:
    """What it is compiled for. `context_tokens` None: unknown, not checked."""

    model: str
    block_tokens: int
    salt: str | None
    context_tokens: int | None
    encode: Encode
    hashes: Hashes
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of the chat template: `encode` counts with them."""
    weights_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class _Rendered:
    """One prompt: a template with one input."""

    template: str
    chat: list[Message]
    ids: list[int]


def compile_folder(folder: PromptFolder, variables: Mapping[str, str], target: Target) -> Compiled:
    """Compile `folder`. Raises UsageError (what is missing or wrong in it, nothing static in it, a
    prompt longer than the context)."""
    static = folder.static(variables)
    messages = [folder.system(variables)]
    if not any(part.text.strip() for part in static) and not folder.tools:
        raise UsageError(f"{folder.folder}: its static part is empty: nothing to compile")
    rendered = _render(folder, messages, variables, target)
    _check_context(folder, rendered, target.context_tokens)
    ids = static_part([r.ids for r in rendered])
    _check_static(folder, rendered, ids, target)
    probes = _probes(rendered, len(messages))
    return Compiled(
        prompt=folder.folder.resolve().name,
        variables={**folder.variables, **variables},
        **measured([r.ids for r in rendered], ids, target),
        segments=_segments(folder, static, rendered[0], len(ids), target.encode),
        templates=[_template(folder, name, rendered, len(ids)) for name in folder.templates],
        messages=messages,
        tools=list(folder.tools),
        probes=probes,
    )


def measured(prompts: Sequence[Sequence[int]], static: list[int], target: Target) -> dict[str, Any]:
    """The fields of a compiled prompt that follow from its tokens, whatever they come from."""
    blocks = len(static) // target.block_tokens
    tokenizer = fingerprint(target.encode)
    return {
        "model": target.model,
        "tokenizer_sha256": tokenizer,
        "block_tokens": target.block_tokens,
        "cache_salt": target.salt,
        "static_tokens": len(static),
        "dynamic_tokens": _spread([len(ids) - len(static) for ids in prompts]),
        "full_blocks": blocks,
        "cached_tokens": blocks * target.block_tokens,
        "rounding_tokens": len(static) - blocks * target.block_tokens,
        "cache_key": cache_key(target.model, tokenizer, target.block_tokens, target.salt, static),
        "block_hashes": target.hashes(static, target.block_tokens, target.salt),
        "static_token_ids": static,
        "template_arguments": dict(target.arguments),
        "weights_sha256": target.weights_sha256,
    }


def _render(
    folder: PromptFolder, messages: list[Message], variables: Mapping[str, str], target: Target
) -> list[_Rendered]:
    named = []
    for template in folder.templates:
        fixed = {**folder.variables, **variables}
        inputs = folder.inputs(template)
        users = {u["content"]: u for v in inputs if (u := folder.user(template, {**fixed, **v}))}
        if len(users) < 2:
            raise UsageError(
                f"{folder.templates[template]}: {len(inputs)} input(s) give {len(users)} different "
                "message; at least 2 different ones are needed to see what is dynamic: name a "
                f"variable in it, and give it values in dynamic_inputs/{template}.txt or .jsonl"
            )
        for user in sample(list(users.values())):
            named.append((template, [*messages, user]))
    encoded = target.encode([(chat, folder.tools) for _, chat in named])
    return [_Rendered(t, chat, ids) for (t, chat), ids in zip(named, encoded, strict=True)]


def _check_context(
    folder: PromptFolder, rendered: list[_Rendered], context_tokens: int | None
) -> None:
    longest = max(rendered, key=lambda r: len(r.ids))
    if context_tokens is not None and len(longest.ids) >= context_tokens:
        raise UsageError(
            f"{folder.folder}: with template '{longest.template}' the prompt has "
            f"{len(longest.ids)} tokens, and the model's context is {context_tokens}"
        )


def _check_static(
    folder: PromptFolder, rendered: list[_Rendered], ids: list[int], target: Target
) -> None:
    """UsageError when the common prefix is not more than what any two chats share."""
    stranger: list[Message] = [{"role": "system", "content": STRANGER}, rendered[0].chat[-1]]
    (stranger_ids,) = target.encode([(stranger, ())])
    if len(ids) <= common_prefix(stranger_ids, rendered[0].ids):
        raise UsageError(
            f"{folder.folder}: nothing of it is static: the prompts differ from token {len(ids)} on"
        )


def fingerprint(encode: Encode) -> str:
    """Of a tokenizer and chat template: over the tokens of fixed chats."""
    ids = encode([(chat, ()) for chat in FINGERPRINT])
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()


def _probes(rendered: list[_Rendered], static: int) -> tuple[list[Message], list[Message]]:
    """The dynamic parts of two prompts that part right behind the static part."""
    first = rendered[0]
    second = min(rendered[1:], key=lambda r: common_prefix(first.ids, r.ids))
    return first.chat[static:], second.chat[static:]


def _template(folder: PromptFolder, name: str, rendered: list[_Rendered], static: int) -> Template:
    own = [r.ids for r in rendered if r.template == name]
    own_static = len(static_part(own))
    path = folder.templates[name]
    return Template(
        name=name,
        file=str(path.relative_to(folder.folder)),
        inputs=len(own),
        static_tokens=own_static - static,
        dynamic_tokens=_spread([len(ids) - own_static for ids in own]),
        sha256=_sha256(path.read_text(encoding="utf-8")),
    )


def _segments(
    folder: PromptFolder,
    static: tuple[StaticText, ...],
    rendered: _Rendered,
    static_tokens: int,
    encode: Encode,
) -> list[Segment]:
    """Tokens of each part, by cutting the prompt behind it: what stays the same is before the cut.

    The sum over all segments, the frame included, is the number of static tokens.
    """
    content = rendered.chat[0]["content"]
    cuts = ["", *(content[: part.end] for part in static)]
    chats: list[tuple[list[Message], Tools]] = [
        ([{"role": "system", "content": cut + STRANGER}, *rendered.chat[1:]], folder.tools)
        for cut in cuts
    ]
    *cut_ids, without_tools = encode([*chats, (rendered.chat, ())])
    edges = [min(common_prefix(rendered.ids, ids), static_tokens) for ids in cut_ids]
    tools_tokens = len(rendered.ids) - len(without_tools) if folder.tools else 0
    segments = []
    for part, low, high in zip(static, edges, edges[1:], strict=False):
        segments.append(segment(part.file, part.kind, part.file, max(0, high - low), part.text))
    if folder.tools:
        text = json.dumps(list(folder.tools), indent=1, ensure_ascii=False)
        shown = tools_tokens or None  # None: the template does not show them
        segments.append(segment("tools.json", "tools", "tools.json", shown, text))
    rest = static_tokens - sum(s.tokens or 0 for s in segments)
    return [*segments, segment("chat template and openings", "frame", None, rest, "")]


def segment(name: str, kind: Any, file: str | None, tokens: int | None, text: str) -> Segment:
    return Segment(name=name, kind=kind, file=file, tokens=tokens, sha256=_sha256(text), text=text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _spread(values: Sequence[int]) -> Spread:
    return Spread(min=min(values), median=int(statistics.median(values)), max=max(values))
