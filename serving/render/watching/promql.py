"""PromQL over an engine's metrics: rates and quantiles by labels, with matchers put in (pure)."""

from __future__ import annotations


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


def found_per_s(
    hits: str, hits_beyond: str | None, window: str, by: str, matchers: str = ""
) -> str:
    """Tokens found a second, in all tiers. A server that does not count those beyond its device (an
    older one) has none there."""
    device = per_s(matching(hits, matchers), window, by)
    if hits_beyond is None:
        return device
    beyond = per_s(matching(hits_beyond, matchers), window, by)
    return f"({device} + ({beyond} or 0 * {device}))"


def total(selector: str, window: str, by: str) -> str:
    """What a counter grew by in the window."""
    return f"sum by ({by}) (increase({selector}[{window}]))"


def quantile(histogram: str, q: float, window: str, by: str, matchers: str = "") -> str:
    """Interpolated within the engine's buckets."""
    buckets = matching(f"{histogram}_bucket", matchers)
    return f"histogram_quantile({q}, {per_s(buckets, window, f'le, {by}')})"
