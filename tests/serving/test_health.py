"""What is wrong with a server, by what it says and shows: each fault first where it alone is there,
and none of a healthy one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aot.configs.caches.rule import CacheRule, Layers
from aot.serving.engines.table import ENGINES
from aot.serving.health.facts import Repeats, ServerFacts
from aot.serving.health.faults import faults
from aot.serving.metrics.counters import CacheCounters, CacheFacts

WORKS = (0, 160, 160, 160, 160, 160)
ON = CacheFacts(True, 16, 100_000)
COUNTED = CacheCounters(None, 80_000.0, 100_000.0, 5_000.0, 0.0)
WINDOW = CacheRule(16, (Layers("full"), Layers("window", 512)))


def facts(**changes: Any) -> ServerFacts:
    """Of a healthy vLLM."""
    healthy = ServerFacts(
        url="http://gpu:8000", model="m", engine="vLLM", version="0.32.0", has_metrics=True,
        cache=ON, context_tokens=8192, since=COUNTED, requests=100.0, window_s=10.0,
        window=CacheCounters(None, 800.0, 1_000.0, 50.0, 0.0), gauges={"waiting": 0.0},
        looks=11, looks_waiting=7, engines=1, repeats=Repeats(181, WORKS), dated=None,
        settings=ENGINES["vllm"].remedies,
    )  # fmt: skip
    return replace(healthy, **changes)


def counted(**changes: Any) -> CacheCounters:
    return replace(COUNTED, **changes)


def test_a_healthy_server_has_none() -> None:
    assert faults(facts()) == []
    assert faults(facts(repeats=None)) == []
    fresh = CacheCounters(None, 0.0, 200.0, 5.0, 0.0)
    assert faults(facts(since=fresh, requests=6.0)) == []


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("off", {"cache": CacheFacts(False, 16, 100_000), "repeats": Repeats(181, (0,) * 6)}),
        ("no-affinity", {"repeats": Repeats(181, (0, 0, 160, 160, 160, 160))}),
        ("no-affinity", {"repeats": Repeats(181, (0, 0, 0, 160, 160, 0))}),
        ("nothing-found", {"repeats": Repeats(181, (0,) * 6)}),
        (
            "nothing-found",
            {"cache": CacheFacts(None, None, None), "repeats": Repeats(181, (0,) * 6)},
        ),
        ("ranks", {"engines": 4}),
        ("window-rule", {"cache": replace(ON, rule=WINDOW)}),
        ("window-rule", {"cache": replace(ON, rule=WINDOW), "repeats": Repeats(181, (0,) * 6)}),
        ("small-cache", {"cache": replace(ON, capacity_tokens=4_096)}),
        ("preemptions", {"since": counted(preemptions=12.0)}),
        (
            "short-life",
            {"window": CacheCounters(None, 0.0, 40_000.0, 1_000.0, 0.0)},
        ),
        ("below-a-block", {"cache": replace(ON, block_tokens=512)}),
        ("traffic-finds-nothing", {"since": counted(hit_tokens=900.0)}),
        ("unreported", {"repeats": Repeats(181, (None,) * 6)}),
        ("no-metrics", {"has_metrics": False}),
        ("template-date", {"dated": "2026-11-27"}),
        ("queue", {"looks_waiting": 9, "gauges": {"waiting": 9.0}}),
    ],
)
def test_each_is_named_first(name: str, changes: dict[str, Any]) -> None:
    found = faults(facts(**changes))
    assert found[0].name == name
    assert len(found[0].words) > 20 < len(found[0].words + found[0].remedy)


def test_a_burst_is_no_queue() -> None:
    waiting = {"gauges": {"waiting": 9.0}}
    assert faults(facts(looks=1, looks_waiting=1, **waiting)) == []
    assert faults(facts(looks=11, looks_waiting=8, **waiting)) == []
    (fault,) = faults(facts(looks=4, looks_waiting=3, **waiting))
    assert fault.words.startswith("requests waited at 3 of 4 looks (up to 9)")


def test_what_is_not_known_is_not_named() -> None:
    nothing = CacheCounters(None, None, None, None, None)
    unknown = facts(
        cache=CacheFacts(None, None, None), context_tokens=None, since=nothing, requests=None,
        window=None, gauges={}, repeats=None, has_metrics=False, settings={},
    )  # fmt: skip
    assert faults(unknown) == []
    assert unknown.lives_s is None is unknown.mean_prompt_tokens


def test_the_remedy_is_the_engines_own() -> None:
    (fault,) = faults(facts(repeats=Repeats(181, (None,) * 6)))
    assert "--enable-prompt-tokens-details" in fault.remedy
    (fault,) = faults(facts(repeats=Repeats(9, (None,) * 6), settings=ENGINES["sglang"].remedies))
    assert "--enable-cache-report" in fault.remedy
