"""What happened to one request: facts only. Every metric is derived from these, in analysis/.

Times are seconds on one monotonic clock whose zero is the start of the replay; the header line of
a record file ties that zero to UTC.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

FORMAT = "aot-records/1"
CANCELLED = "cancelled by its client"
"""How the error of a request begins whose client hung up, as planned."""
RARE = ("hidden_tokens", "choices", "resent", "cancelled_s", "answer")
"""Left out of a line where there is nothing to say."""


@dataclass(slots=True)
class Record:
    """One request. None means unknown or not reached, never 0."""

    id: str
    arm: str
    repeat: int
    tenant: str
    prefix: str
    planned_s: float | None
    """When it was due; None in a closed loop, where nothing is planned."""
    sent_s: float | None
    """None: never sent, or not known (the load process that had it died)."""
    first_token_s: float | None = None
    last_token_s: float | None = None
    chunk_s: list[float] = field(default_factory=list)
    """When each chunk that carried text arrived."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    """All that were generated, those that did not arrive included."""
    status: int | None = None
    """HTTP status; None when no answer came."""
    error: str | None = None
    answer: str | None = None
    """What the server said, kept where a later turn has it in its history."""
    hidden_tokens: int | None = None
    """Of the output, reasoning that the server counted and did not send."""
    finish_reason: str | None = None
    """Why the server ended the answer, in its own word."""
    choices: int | None = None
    """Alternative answers, where there was more than one."""
    resent: bool = False
    """Whether a kept connection died before any answer, so that it was sent once more."""
    cancelled_s: float | None = None
    """When its client hung up, as planned. Without an error the same was sent again then, and all
    else is of that."""

    def to_line(self) -> str:
        # Not asdict(): it copies every chunk's time, and other answers wait for their stamps.
        row = {name: getattr(self, name) for name in self.__slots__}
        for name in RARE:
            if row[name] in (None, False):  # an answer without a text is one
                del row[name]
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


@dataclass(frozen=True, slots=True)
class RecordHeader:
    """First line of a record file: which replay its records belong to."""

    arm: str
    repeat: int
    worker: int
    clock_zero_utc: str
    clock_zero_monotonic_s: float
    """The same instant on CLOCK_MONOTONIC, to join with other clocks of the same machine."""
    schedule_sha256: str
    format: str = FORMAT

    def to_line(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":")) + "\n"
