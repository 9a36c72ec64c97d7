"""Times that a trace has rounded: by how much, and spread again.

Mooncake's traces have times in steps of 3 s: replayed as they are, what came over 3 s comes at
once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from random import Random

CUT_S = 0.002
"""What is cut off behind the step: Mooncake has 5.999 s between 3 and 9."""
LEAST_REQUESTS = 10
"""Of fewer nobody can tell whether their times are rounded."""
PER_S = 100
"""Distances are looked at in hundredths of a second, which hide what was cut off,"""
LEAST_STEPS = 2
"""and a step is two of them at least."""


def step_s(times_s: Sequence[float]) -> float | None:
    """The step that all of the ascending `times_s` are multiples of; None where there is none of
    20 ms or more, where no two are equal, or where they are too few."""
    distinct = sorted(set(times_s))
    if len(times_s) < LEAST_REQUESTS or not 1 < len(distinct) < len(times_s):
        return None
    distances = (round((b - a) * PER_S) for a, b in pairwise(distinct))
    step = math.gcd(*distances) / PER_S
    if step * PER_S < LEAST_STEPS:
        return None
    off = (abs((t - distinct[0]) / step - round((t - distinct[0]) / step)) for t in distinct)
    return step if max(off) * step <= CUT_S else None


def spread(times_s: Sequence[float], step: float, random: Random) -> list[float]:
    """`times_s`, ascending, each later by a draw from [0, step): in order still, and none past the
    next step."""
    later = [random.random() * step for _ in times_s]
    made: list[float] = []
    start = 0
    for end in range(1, len(times_s) + 1):
        if end == len(times_s) or times_s[end] != times_s[start]:
            made += (times_s[start] + add for add in sorted(later[start:end]))
            start = end
    return made
