"""Numbers as readers see them; what is unknown reads "not reported"."""

from __future__ import annotations

import pandas as pd


def seconds(value: float | None) -> str:
    """A duration for readers: ms below one second."""
    if value is None or pd.isna(value):
        return "not reported"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def ratio_text(value: float | None) -> str:
    return "not reported" if value is None else f"{value:.4f}"


def number(value: float | None) -> str:
    if value is None:
        return "not reported"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
