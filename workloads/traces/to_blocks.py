"""Requests of a trace → the blocks of their prompts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from aot.configs.kernel.chains import chain
from aot.configs.kernel.errors import UsageError
from aot.workloads.logs.traced import Traced
from aot.workloads.requests.body import apart
from aot.workloads.traces.blocks import BlockTrace, Builder, TokenBuilder
from aot.workloads.traces.formats import Format

if TYPE_CHECKING:
    from aot.workloads.requests.tokens import ChatParts

Encode = Callable[[Sequence["ChatParts"]], list[list[int]]]
DEFAULT_BLOCK_TOKENS = 16
"""vLLM's, for prompts whose trace has no blocks of its own."""
AT_ONCE = 256
MOST_AT_ONCE = 2_000_000
"""Characters: their tokens take some 30 bytes each."""
MOST_PART_BLOCKS = 12_000_000
"""Each distinct one has a name to remember: about 200 bytes."""


def block_trace(
    requests: Iterator[Traced], format_: Format, block_tokens: int | None, encode: Encode | None
) -> BlockTrace:
    """The whole trace, in its own blocks where it has some, else in blocks of `block_tokens`.

    `encode` counts tokens of traces that are texts. Raises UsageError for a trace without prefix
    information, and for texts without a tokenizer.
    """
    size = block_tokens or DEFAULT_BLOCK_TOKENS
    match format_.knows:
        case "blocks":
            return _by_names(requests, format_.block_tokens or size, format_.full_only)
        case "parts":
            return _by_parts(requests, size)
        case "messages" if encode is not None:
            return _by_tokens(requests, size, encode)
        case "messages":
            raise UsageError(
                f"a trace of format {format_.name} is text: name the model whose tokenizer counts: "
                "--model PATH"
            )
    raise UsageError(
        f"a trace of format {format_.name} tells lengths and times only, not which prompts begin "
        "alike: there is nothing to find in a cache"
    )


def _by_names(requests: Iterator[Traced], block_tokens: int, full_only: bool) -> BlockTrace:
    builder = Builder(block_tokens, full_only)
    for r in requests:
        builder.add(r.blocks, r.input_tokens or 0)
    return builder.build()


def _by_parts(requests: Iterator[Traced], block_tokens: int) -> BlockTrace:
    builder = Builder(block_tokens)
    for r in requests:
        builder.add(part_blocks(r.parts, block_tokens), r.input_tokens or 0)
        if builder.references > MOST_PART_BLOCKS:
            raise UsageError(
                f"more than {MOST_PART_BLOCKS:,} blocks of {block_tokens} tokens; choose larger"
            )
    return builder.build()


def _by_tokens(requests: Iterator[Traced], block_tokens: int, encode: Encode) -> BlockTrace:
    builder = TokenBuilder(block_tokens)
    for traced, ids in encoded(requests, encode):
        builder.add(ids, apart(traced.body or {}))
    return builder.build()


def part_blocks(parts: Sequence[tuple[str, int, int]], block_tokens: int) -> list[Hashable]:
    """Names of the blocks of a prompt in parts: by all parts up to the block's end, and by how much
    of the last one is in it. The last block may be partial."""
    blocks: list[Hashable] = []
    name, end = 0, 0
    names = chain(name for _, name, _ in parts)
    for (_, _, tokens), name in zip(parts, names, strict=True):
        begin, end = end, end + tokens
        first = (begin // block_tokens + 1) * block_tokens
        blocks += [(name, edge - begin) for edge in range(first, end + 1, block_tokens)]
    if end % block_tokens:
        blocks.append((name, -1))
    return blocks


def encoded(requests: Iterator[Traced], encode: Encode) -> Iterator[tuple[Traced, list[int]]]:
    batch: list[Traced] = []
    held = 0
    for traced in requests:
        batch.append(traced)
        held += sum(len(str(m.get("content"))) for m in traced.messages)
        if held > MOST_AT_ONCE or len(batch) == AT_ONCE:
            yield from zip(batch, encode([_chat(r) for r in batch]), strict=True)
            batch, held = [], 0
    yield from zip(batch, encode([_chat(r) for r in batch]), strict=True)


def _chat(traced: Traced) -> ChatParts:
    arguments = (traced.body or {}).get("chat_template_kwargs") or {}
    return list(traced.messages), traced.tools, arguments
