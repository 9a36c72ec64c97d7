"""`aot oracle --what-if`: the same requests with their parts in other orders, priced."""

from __future__ import annotations

from aot.analysis.cache import layouts
from aot.analysis.cache.layouts import Layout
from aot.configs.kernel.errors import UsageError
from aot.scripts.traffic.oracle import Source
from aot.workloads.lint.corrections import CORRECTIONS
from aot.workloads.traces.formats import FORMATS
from aot.workloads.traces.request_log import Logged, as_logged, as_traced
from aot.workloads.traces.to_blocks import block_trace

ORDERS = ("dynamic-first", "document-order", "example-order")
"""Corrections that only put the same text into another order."""


def what_if(source: Source, block_tokens: int | None) -> list[Layout]:
    """Every order of the requests' parts, priced. UsageError where a trace cannot be reordered."""
    match source.format.knows:
        case "parts":
            priced_layouts = layouts.price([r.parts for r in source.requests()], block_tokens or 1)
            source.say_skipped()
            return priced_layouts
        case "messages":
            return _reordered_texts(source, block_tokens)
    raise UsageError(
        f"a trace of format {source.format.name} names blocks of whole prompts, not their parts: "
        "what another order would be worth cannot be told from it (ragpulse, openai, sharegpt and "
        "schedules can)"
    )


def _reordered_texts(source: Source, block_tokens: int | None) -> list[Layout]:
    log = [as_logged(r) for r in source.requests()]
    source.say_skipped()
    everything = log
    versions: list[tuple[str, str, list[Logged]]] = [
        ("as logged", "the order that is sent", log),
        ("canary", "the same order, measured again: must change nothing", list(log)),
    ]
    for rule in ORDERS:
        reordered_log = CORRECTIONS[rule](log)
        if reordered_log != log:
            versions.append((rule, "mended as 'aot lint' says", reordered_log))
            everything = CORRECTIONS[rule](everything)
    versions.append(("all of them", "every order mended", everything))
    priced_layouts: list[Layout] = []
    for name, what, version in versions:
        trace = block_trace(map(as_traced, version), FORMATS["openai"], block_tokens, source.encode)
        priced_layouts.append(
            layouts.of_trace(name, what, trace, priced_layouts[0] if priced_layouts else None)
        )
    return priced_layouts
