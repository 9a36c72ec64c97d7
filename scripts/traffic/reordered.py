"""`aot oracle --what-if`: the same requests with their parts in other orders, priced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from aot.analysis.cache import layouts
from aot.analysis.cache.layouts import Layout
from aot.configs.dialects.table import EndpointName
from aot.configs.kernel.errors import UsageError
from aot.scripts.traffic.oracle import Source
from aot.workloads.corrections.logged import Logged, as_logged, as_traced
from aot.workloads.corrections.rules import CORRECTIONS
from aot.workloads.lint import log as lint_log
from aot.workloads.lint import seen
from aot.workloads.lint.flaw import both_forms
from aot.workloads.logs.bodies import Logged as Body
from aot.workloads.logs.traced import Traced
from aot.workloads.traces.formats import FORMATS
from aot.workloads.traces.in_time import CHARACTERS_PER_TOKEN
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
    requests = list(source.requests())
    log = [as_logged(r) for r in requests]
    source.say_skipped()
    everything = log
    versions: list[tuple[str, str, list[Logged]]] = [
        ("as logged", "the order that is sent", log),
        ("canary", "the same order, measured again: must change nothing", list(log)),
    ]
    named = _named(requests)
    for rule in (r for r in ORDERS if r in named):
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


def _named(requests: Sequence[Traced]) -> set[str]:
    """The causes that `aot lint` finds in the same requests: no other order is worth a price."""
    log = [seen.of(_logged(r), r.line, {}) for r in requests]
    flaws = lint_log.lint(log, "", 1 / CHARACTERS_PER_TOKEN).flaws
    return both_forms(flaw.rule for flaw in flaws)


def _logged(request: Traced) -> Body:
    body = request.body or {"messages": list(request.messages), "tools": list(request.tools)}
    return Body(cast(EndpointName, request.endpoint), dict(body), session=request.session)
