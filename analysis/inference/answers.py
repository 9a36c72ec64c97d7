"""The three questions that a run answers, each with its own proof (`answers` of summary.json).

caching     jit → auto: what the cache gives, which every engine has on by default
compiling   auto → aot: what filling it before traffic adds: which requests would have been cold, by
            how much, and what warming took
floor       aot → the dynamic suffix alone: what is left
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

METRIC = ("ttft_s", "p50")


def of_server(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """From `arms` and `comparison` of one server; None for what was not measured."""
    arms = numbers["arms"]
    return {
        "caching": _ratio(numbers, "jit", "auto"),
        "both": _ratio(numbers, "jit", "aot"),
        "compiling": _compiling(numbers),
        "floor": arms.get("aot", {}).get("floor"),
    }


def _ratio(numbers: Mapping[str, Any], before: str, after: str) -> dict[str, Any] | None:
    rows = numbers["comparison"]["ratios"]
    wanted = (before, after, *METRIC)
    return next(
        (r for r in rows if (r["before"], r["after"], r["metric"], r["quantile"]) == wanted), None
    )


def _compiling(numbers: Mapping[str, Any]) -> dict[str, Any] | None:
    """`cold_requests` of `requests` in auto found less than their static prefix, and took
    `cold_extra_s` longer at the median than those that found it; `warming` is aot's."""
    ratio = _ratio(numbers, "auto", "aot")
    if ratio is None:
        return None
    by_hit = numbers["arms"]["auto"]["by_hit"]
    cold = extra_s = requests = None
    if by_hit:
        requests = sum(kind["requests"] for kind in by_hit.values())
        cold = requests - by_hit["hit"]["requests"]
        warm_s, cold_s = by_hit["hit"]["ttft_s"]["p50"], by_hit["miss"]["ttft_s"]["p50"]
        if None not in (warm_s, cold_s):
            extra_s = cold_s - warm_s
    return {
        "ratio": ratio,
        "requests": requests,
        "cold_requests": cold,
        "cold_extra_s": extra_s,
        "warming": numbers["arms"]["aot"].get("warming"),
    }
