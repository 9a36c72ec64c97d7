"""Whether two pages of counters are of one process, from its start to its end (pure).

What was counted between two pages is a difference, and that means nothing once the engine was
restarted in between: its counters began anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from aot.serving.metrics.counters import CacheCounters, Metrics

START = "process_start_time_seconds"
CREATED = "_created"
"""prometheus_client exports when a counter was made, beside each."""
SLACK_S = 1.0
COUNTERS = ("_total", "_bucket")

Series = tuple[str, frozenset[tuple[str, str]]]


def reset(before: Metrics, after: Metrics) -> str | None:
    """What shows that the counting began anew between the pages; None where nothing does."""
    then, now = (dict(_series(page)) for page in (before, after))
    for (name, labels), value in then.items():
        later = now.get((name, labels))
        if name == START or name.endswith(CREATED):
            if later is not None and later > value + SLACK_S:
                return f"{name} is {later - value:.0f} s later than before"
        elif name.endswith(COUNTERS) and value > 0 and (later is None or later < value):
            shown = "is gone" if later is None else f"fell from {value:g} to {later:g}"
            return f"{name} {shown}"
    return None


def impossible(counted: CacheCounters) -> str | None:
    """What cannot have been counted by one process; None where all can."""
    if counted.hit_tokens is None:
        return None
    for what, total in (
        ("were looked up", counted.queried_tokens),
        ("were processed", counted.prompt_tokens),
    ):
        if total is not None:
            if counted.hit_tokens > total:
                return f"{counted.hit_tokens:g} tokens were found and {total:g} {what}"
            return None
    return None


def _series(page: Metrics) -> Iterator[tuple[Series, float]]:
    for name, samples in page.items():
        for sample in samples:
            yield (name, frozenset(sample.labels.items())), sample.value
