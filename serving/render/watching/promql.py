"""PromQL over an engine's metrics: rates and quantiles by labels, with matchers put in (pure)."""

from __future__ import annotations

import re

from aot.serving.engines.engine import Watched


def matching(selector: str, matchers: str) -> str:
    """`selector` (a name, with matchers or without) with some more of them."""
    if not matchers:
        return selector
    if selector.endswith("}"):
        return f"{selector[:-1]},{matchers}}}"
    return f"{selector}{{{matchers}}}"


def per_s(selector: str, window: str, by: str) -> str:
    """The rate of a counter, as a sum by labels."""
    return f"sum by ({by}) (rate({selector}[{window}]))"


def found_per_s(names: Watched, window: str, by: str, matchers: str = "") -> str:
    """Tokens found a second, in all tiers. A counter that is not there is 0 where something was
    looked up: SGLang has none before its first hit, an older vLLM none beyond the device."""
    none = f"0 * {per_s(matching(names.lookups, matchers), window, by)}"
    counted = (names.hits, names.hits_beyond)
    rates = [per_s(matching(counter, matchers), window, by) for counter in counted if counter]
    return " + ".join(f"({rate} or {none})" for rate in rates)


def selected(expression: str, engine: str, matchers: str) -> str:
    """`expression` over the engine's metrics, its gates', and what is recorded of them, with some
    more matchers on each."""

    def more(name: re.Match[str]) -> str:
        return f"{name[1]}{{{matchers}{',' if name[2] else '}'}"

    return re.sub(rf"\b((?:aot|{engine}):[\w:]+|aot_gate_\w+)({{)?", more, expression)


def total(selector: str, window: str, by: str) -> str:
    """What a counter grew by in the window."""
    return f"sum by ({by}) (increase({selector}[{window}]))"


def quantile(histogram: str, q: float, window: str, by: str, matchers: str = "") -> str:
    """Interpolated within the engine's buckets."""
    buckets = matching(f"{histogram}_bucket", matchers)
    return f"histogram_quantile({q}, {per_s(buckets, window, f'le, {by}')})"
