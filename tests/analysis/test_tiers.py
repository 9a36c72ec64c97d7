"""What was found in each tier, and by which requests: only where both ways of counting agree."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from aot.analysis.measures import tiers


def frame(*rows: tuple[float | None, float]) -> pd.DataFrame:
    """A prompt of 100 tokens each: cached tokens, TTFT."""
    cached, ttft_s = zip(*rows, strict=True)
    columns = {"ok": True, "prompt_tokens": 100.0, "cached_tokens": cached, "ttft_s": ttft_s}
    return pd.DataFrame(columns).astype({"cached_tokens": "float64"})


def of(tokens: dict[str, int], made: pd.DataFrame, *on_device: float | None) -> Any:
    found = pd.Series(on_device, dtype="float64")
    return tiers.of_arm(tokens, made, found)


def test_requests_that_found_more_than_the_device_held_found_it_further_away() -> None:
    made = frame((80, 1.0), (80, 0.1), (80, 0.3), (0, 5.0))
    found = of({"device": 160, "host": 0, "disk": 0, "store": 80}, made, 0, 80, 80, 0)
    assert found["store"] == {"tokens": 80, "share": 0.2, "requests": 1, "ttft_p50_s": 1.0}
    assert found["device"] == {"tokens": 160, "share": 0.4, "requests": 2, "ttft_p50_s": 0.2}
    assert found.keys() == {"device", "store"}


@pytest.mark.parametrize(
    ("tokens", "cached", "on_device"),
    [
        ({"device": 100, "store": 60}, 80, (0, 80)),  # evicted, and had from the store again
        ({"device": 80, "store": 80}, None, (0, 80)),
        ({"device": 80, "store": 80}, 80, (None, 80)),
        ({"device": 80, "host": 40, "store": 40}, 80, (0, 80)),
    ],
)
def test_what_cannot_be_told_apart_is_not(
    tokens: dict[str, int], cached: float | None, on_device: tuple[float | None, ...]
) -> None:
    found = of(tokens, frame((cached, 1.0), (80, 0.1)), *on_device)
    assert {t: n["tokens"] for t, n in found.items()} == tokens
    assert {n["requests"] for n in found.values()} == {None}
    assert {n["ttft_p50_s"] for n in found.values()} == {None}


def test_without_another_tier_there_is_nothing_to_tell() -> None:
    made = frame((80, 1.0))
    assert of({"device": 80}, made, 80) is None
    assert of({"device": 80, "store": 0}, made, 80) is None
    assert tiers.of_arm(None, made, pd.Series([80.0])) is None
