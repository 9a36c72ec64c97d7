"""Numbers as readers see them; what is unknown reads "not reported"."""

from __future__ import annotations

import math

import pandas as pd

DIGITS = 3
"""That a measured number deserves: its intervals are rarely below 1 %."""


def digits(value: float, count: int = DIGITS) -> str:
    """`value` with so many significant digits, without an exponent: 0.00842, 17.7, 1,230."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = int(f"{value:.{count - 1}e}".partition("e")[2])  # of the rounded value
    decimals = count - 1 - exponent
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def seconds(value: float | None) -> str:
    """A duration for readers: µs, ms or s, three digits."""
    if value is None or pd.isna(value):
        return "not reported"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if abs(value) >= 0.9995 * size or value == 0:
            return f"{digits(value / size)} {unit}"
    return f"{digits(value / 1e-6)} µs"


def rounded_ratio(value: float | None) -> str:
    """A ratio of times: three digits, so that 1.2 % are not "1.0 times"."""
    return "not available" if value is None else digits(value)


def ratio_text(value: float | None) -> str:
    """A share of tokens."""
    return "not reported" if value is None else f"{value:.4f}"


def number(value: float | None) -> str:
    """A count or a rate: whole from 100 on."""
    if value is None or pd.isna(value):
        return "not reported"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else digits(value)
