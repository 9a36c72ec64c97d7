"""What was found in the cache: by the engine, as expected, as predicted; and where the
rest of the prompt tokens went."""

from __future__ import annotations

import pandas as pd

from aot.analysis.cache import losses, oracle
from aot.analysis.runs.phases import Phase
from aot.analysis.runs.run import ServerRun
from aot.serving.metrics.counters import sum_up


def server_hit_ratio(phases: list[Phase]) -> float | None:
    """Σ hits / Σ looked-up tokens over all phases; None when one of them was not scraped."""
    counters = [p.counters for p in phases if p.counters]
    return sum_up(counters).hit_ratio if counters and len(counters) == len(phases) else None


def expected_hit_ratio(run: ServerRun, phases: list[Phase]) -> float | None:
    """Σ expected cached tokens / Σ planned prompt tokens over the answered requests."""
    cached = prompts = 0
    for phase in phases:
        expected = expected_by_request(run, phase)
        if expected is None:
            return None
        tokens = run.prompts(phase)
        answered = set(phase.records.loc[phase.records["error"].isna(), "id"])
        cached += sum(n for r, n in expected.items() if r in answered)
        prompts += sum(len(tokens[r]) for r in expected if r in answered)
    return cached / prompts if prompts else None


def predicted_hit_ratio(phases: list[Phase], good: pd.DataFrame) -> float | None:
    """What compiling promised before the run: every request finds the full blocks of its prefix's
    static part, and nothing else. Only where prefixes were compiled in (aot)."""
    if any(p.arm == "restarted" for p in phases):
        return None  # a store keeps whole chunks, and not whole blocks
    rule = next((p.facts.reuse for p in phases if p.facts), None)
    static = {w["id"]: w["static_tokens"] for p in phases for w in p.warmed or ()}
    if rule is None or not static or None in static.values() or good.empty:
        return None
    pairs = zip(good["prefix"], good["prompt_tokens"], strict=True)
    known = [(static[p], int(n)) for p, n in pairs if p in static and n == n]
    total = sum(n for _, n in known)
    cached = sum(rule.expected_tokens(s, n) for s, n in known)
    return cached / total if total else None


def expected_by_request(run: ServerRun, phase: Phase) -> dict[str, int] | None:
    """Expected cached tokens of each recorded request, in the order of sending (a request that
    failed may still have filled the cache); None without token ids or block size."""
    if phase.arm == "restarted":
        return None  # what a store gave back was not asked of it
    return found_on_device(run, phase)


def found_on_device(run: ServerRun, phase: Phase) -> dict[str, int] | None:
    """The same without any tier beyond the device."""
    order = run.sent(phase)
    if order is None:
        return None
    if phase.arm == "jit":
        return dict.fromkeys((s.id for s in order), 0)
    if phase.facts is None or phase.facts.reuse is None:
        return None
    return oracle.expected_cached_tokens(order, run.before(phase), phase.facts.reuse)


def losses_of(run: ServerRun, phases: list[Phase]) -> dict[str, int] | None:
    """Where the prompt tokens went, summed over phases of a caching arm; None where unknown."""
    total: dict[str, int] = {}
    for phase in phases:
        order = run.sent(phase)
        if (
            order is None
            or phase.arm in ("jit", "restarted")
            or phase.facts is None
            or run.schedule is None
        ):
            return None
        good = phase.records[phase.records["error"].isna()]
        cached = dict(zip(good["id"], good["cached_tokens"], strict=True))
        rule = phase.facts.reuse
        if rule is None or any(n != n for n in cached.values()):
            return None
        replayed = run.of(phase)
        static = {p: len(ids) for p, ids in replayed.static_prefixes.items()}
        requests = replayed.schedule.requests if replayed.schedule else ()
        of_request = {r.id: static.get(r.prefix, 0) for r in requests}
        phase_losses = losses.attribute(
            order, {k: int(v) for k, v in cached.items()}, of_request, run.before(phase),
            rule,
        )  # fmt: skip
        if phase_losses is None:
            return None
        for key, tokens in phase_losses.as_json().items():
            total[key] = total.get(key, 0) + tokens
    return total or None
