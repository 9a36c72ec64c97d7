"""Requests in order of time → the blocks of their prompts, and those that their answers fill."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from aot.configs.kernel.chains import block_chain
from aot.configs.kernel.errors import UsageError
from aot.workloads.logs.sessions import Sessions
from aot.workloads.logs.traced import Traced
from aot.workloads.requests.body import apart
from aot.workloads.traces.formats import Format
from aot.workloads.traces.to_blocks import Encode, encoded


@dataclass(frozen=True, slots=True)
class TimedBlocks:
    """`names`: of the full blocks of a prompt of so many `tokens`; `behind`: of those that its
    answer fills, as far as that is known."""

    traced: Traced
    tokens: int
    names: Sequence[Hashable]
    behind: Sequence[Hashable] = ()


def timed_blocks(
    requests: Sequence[Traced], format_: Format, block_tokens: int, encode: Encode | None
) -> list[TimedBlocks]:
    """Of requests with times and durations. What an answer fills is known where the file has its
    blocks, or where a later prompt goes on from it.

    UsageError for a trace without times, without blocks, or whose texts nobody can count.
    """
    if any(r.at_s is None or r.duration_s is None for r in requests):
        raise UsageError(
            "--policy in-flight needs the times of all requests, and this trace has none"
        )
    named = _named(requests, format_, block_tokens, encode)
    following = _following(requests)
    return [
        TimedBlocks(r.traced, r.tokens, r.names, _behind(r, named, following.get(n), block_tokens))
        for n, r in enumerate(named)
    ]


def _named(
    requests: Sequence[Traced], format_: Format, block_tokens: int, encode: Encode | None
) -> list[TimedBlocks]:
    if format_.knows == "messages" and encode is not None:
        return [
            TimedBlocks(r, len(ids), list(block_chain(ids, block_tokens, apart(r.body or {}))))
            for r, ids in encoded(iter(requests), encode)
        ]
    if format_.knows != "blocks":
        more = "; name the model whose tokenizer counts: --model PATH"
        raise UsageError(
            f"--policy in-flight: a trace of format {format_.name} has no blocks"
            + (more if format_.knows == "messages" else "")
        )
    size = format_.block_tokens or block_tokens
    if size != block_tokens:
        raise UsageError(f"--policy in-flight replays the blocks of the trace: --block-size {size}")
    counted = [(r, r.input_tokens or 0) for r in requests]
    return [TimedBlocks(r, tokens, r.blocks[: tokens // size]) for r, tokens in counted]


def _following(requests: Sequence[Traced]) -> dict[int, int]:
    """The request that goes on from each: by its parent, its session, or its messages."""
    numbers = {r.session: n for n, r in enumerate(requests) if r.session is not None}
    last: dict[str, int] = {}
    following: dict[int, int] = {}
    sessions = Sessions()
    for number, traced in enumerate(requests):
        goes_on = sessions.follows(str(number), str(apart(traced.body or {})), traced.messages)
        before = int(goes_on) if goes_on is not None else None
        if traced.parent is not None:
            before = numbers.get(traced.parent, before)
        elif traced.session is not None:
            before = last.get(traced.session, before)
            last[traced.session] = number
        if before is not None:
            following.setdefault(before, number)
    return following


def _behind(
    one: TimedBlocks, named: Sequence[TimedBlocks], following: int | None, block_tokens: int
) -> Sequence[Hashable]:
    if one.traced.answer_blocks or following is None:
        return one.traced.answer_blocks
    theirs, mine = named[following].names, one.names
    if list(theirs[: len(mine)]) != list(mine):
        return ()
    return theirs[len(mine) : (one.tokens + (one.traced.output_tokens or 0)) // block_tokens]
