"""The three questions that a run answers, each with its own proof (`answers` of summary.json).

caching     jit → auto: what the cache gives, which every engine has on by default
compiling   auto → aot: what filling it before traffic adds: which requests would have been cold, by
            how much, and what warming took
mending     auto → mended: what the same traffic would gain without its flaws
restart     auto → restarted: what the first requests after a restart cost without a store and with
            one, beside the same on the device (store, or aot)
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
        "mending": _ratio(numbers, "auto", "mended"),
        "restart": _restart(arms),
        "floor": arms.get("aot", {}).get("floor"),
    }


def _ratio(numbers: Mapping[str, Any], before: str, after: str) -> dict[str, Any] | None:
    rows = numbers["comparison"]["ratios"]
    wanted = (before, after, *METRIC)
    return next(
        (r for r in rows if (r["before"], r["after"], r["metric"], r["quantile"]) == wanted), None
    )


def _compiling(numbers: Mapping[str, Any]) -> dict[str, Any] | None:
    """`cold`: the first requests of each static prefix in auto; `warming`: what spared them in
    aot."""
    ratio = _ratio(numbers, "auto", "aot")
    if ratio is None:
        return None
    return {
        "ratio": ratio,
        "cold": numbers["arms"]["auto"]["cold"],
        "warming": numbers["arms"]["aot"]["warming"],
    }


def _restart(arms: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first requests of each static prefix: `cold` in auto (or jit), from the `store` after a
    restart, on the `device` where all was warm. None where no restart was measured."""
    if not arms.get("restarted", {}).get("firsts"):
        return None
    known = {arm: numbers["firsts"] for arm, numbers in arms.items() if numbers["firsts"]}
    return {
        "cold": known.get("auto") or known.get("jit"),
        "store": known["restarted"],
        "device": known.get("store") or known.get("aot"),
    }
