"""The streamed answer to one request → facts. Pure: what arrived, and when, is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aot.configs.dialects.dialect import BrokenAnswerError, Dialect, Told, is_cut_off
from aot.workloads.wire.record import Record

AT_ONCE = 200
"""Events that are taken apart before others may be stamped: some 0.2 ms."""


def take_answer(
    times: Sequence[float], payloads: Sequence[bytes], dialect: Dialect, record: Record
) -> Iterator[None]:
    """Fill `record` from the events of a streamed answer and the times at which each was complete;
    a generator, so that others can be stamped between some events and the next.

    Raises BrokenAnswerError; what was known by then is in `record`.
    """
    told = Told()
    texts: list[str] = []
    try:
        for n, payload in enumerate(payloads, 1):
            said = dialect.take(payload, told)
            if said is not None:
                record.chunk_s.append(times[n - 1])
                texts.append(said)
            if n % AT_ONCE == 0:
                yield
    finally:
        _note(told, texts, record)
    if not (told.ended or told.finish_reason or told.counted):
        raise BrokenAnswerError("the stream ended before the answer was complete")
    if is_cut_off(told.finish_reason):
        raise BrokenAnswerError(f"the server ended the answer early: {told.finish_reason}")
    if not texts:
        raise BrokenAnswerError("the answer carried no text")


def _note(told: Told, texts: list[str], record: Record) -> None:
    record.prompt_tokens, record.cached_tokens = told.prompt_tokens, told.cached_tokens
    record.output_tokens, record.hidden_tokens = told.output_tokens, told.hidden_tokens
    record.finish_reason = told.finish_reason
    record.choices = told.choices if told.choices > 1 else None
    if texts:
        record.first_token_s, record.last_token_s = record.chunk_s[0], record.chunk_s[-1]
        record.answer = "".join(texts)


def last_text_s(
    times: Sequence[float], payloads: Sequence[bytes], dialect: Dialect
) -> tuple[int, float | None]:
    """How many texts have come so far, and when the last one did."""
    told, came = Told(), []
    for now, payload in zip(times, payloads, strict=True):
        try:
            if dialect.take(payload, told) is not None:
                came.append(now)
        except BrokenAnswerError:
            break
    return len(came), came[-1] if came else None


def is_over(payloads: Sequence[bytes], dialect: Dialect) -> bool:
    """Whether the last of these events says that the answer is complete."""
    told = Told()
    try:
        if payloads:
            dialect.take(payloads[-1], told)
    except BrokenAnswerError:
        return False
    return told.ended
