"""What is static in prompts, by their tokens: the one rule of compiling, warming and reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from aot.workloads.requests.request import Request, Schedule
from aot.workloads.requests.tokens import common_prefix

T = TypeVar("T")
SAMPLE = 8
"""Dynamic inputs that are looked at: more find nothing that these do not."""


def sample(values: Sequence[T]) -> list[T]:
    """At most SAMPLE of them, from all over."""
    step = max(1, len(values) // SAMPLE)
    return list(values[::step][:SAMPLE])


def sampled_requests(schedule: Schedule, prefix: str) -> list[Request]:
    """The requests by which the static part of a prefix is told, beside its two probes."""
    return sample([r for r in schedule.requests if r.prefix == prefix])


def static_part(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest common prefix; at least one token of each prompt stays dynamic."""
    first = prompts[0]
    length = min(common_prefix(first, prompt) for prompt in prompts)
    return list(first[: min(length, min(map(len, prompts)) - 1)])
