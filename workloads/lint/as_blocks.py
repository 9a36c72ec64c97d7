"""Logged requests as a cache sees them, without a tokenizer: blocks of as many characters as so
many tokens have on average."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

from aot.configs.kernel.chains import chain
from aot.workloads.lint.seen import Seen
from aot.workloads.traces.blocks import BlockTrace, Builder

FRAME = "\x1e"
"""Between the parts of a prompt, where a chat template writes something of its own."""


def block_trace(log: Sequence[Seen], block_tokens: int, tokens_per_character: float) -> BlockTrace:
    """In order of time, where all times are known; else as the log is."""
    builder = Builder(block_tokens, full_only=True)
    for request in in_order(log):
        blocks = names(request, block_tokens, tokens_per_character)
        tokens = round(request.characters * tokens_per_character)
        builder.add(blocks, max(len(blocks) * block_tokens, tokens))
    return builder.build()


def names(request: Seen, block_tokens: int, tokens_per_character: float) -> list[Hashable]:
    """A name for each full block and all before it; under another key others."""
    size = max(1, round(block_tokens / tokens_per_character))
    text = FRAME.join(text for _, text in request.parts)
    return list(chain(_pieces(text, size), request.key))


def in_order(log: Sequence[Seen]) -> Sequence[Seen]:
    """By time, where every request has one."""
    if any(r.at_s is None for r in log):
        return log
    return sorted(log, key=lambda r: r.at_s or 0.0)


def _pieces(text: str, size: int) -> Iterator[str]:
    return (text[start : start + size] for start in range(0, len(text) - size + 1, size))
