"""Judge what a run says of the cache: was its state as the arm means, and do the counts agree?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from aot.analysis.cache import oracle
from aot.analysis.checks.finding import Finding
from aot.analysis.runs.phases import Phase
from aot.analysis.runs.run import ServerRun
from aot.serving.metrics.counters import CacheCounters

RATIO_TOLERANCE = 0.01


def state(run: ServerRun) -> Iterator[Finding]:
    check = "cache state proved before each arm"
    # A proof says which problems it found, if only none: one that does not proves nothing.
    unproved = [p.name for p in run.phases if "problems" not in (p.proof or {})]
    failed = [f"{p.name}: {x}" for p in run.phases for x in (p.proof or {}).get("problems", [])]
    cold = [p.name for p in run.phases if p.arm in ("aot", "store") and not _all_warm(p.warmed)]
    if failed:
        yield Finding("void", check, "; ".join(failed))
    if cold:
        yield Finding("void", check, f"static prefixes not verified as cached in {', '.join(cold)}")
    if unproved:
        yield Finding("warning", check, f"no proof for {', '.join(unproved)}: state unknown")
    vague = {x for p in run.phases for x in (p.proof or {}).get("unknown", [])}
    if vague:
        yield Finding("warning", check, "; ".join(sorted(vague)))
    if not (failed or cold or unproved or vague):
        yield Finding("ok", check, "engine configuration and canary prompt agree with every arm")
    yield from _emulated(run)


def _emulated(run: ServerRun) -> Iterator[Finding]:
    """What a reader must know of arms on a server that was neither restarted nor reconfigured."""
    if not run.remote:
        return
    check = "arms on a remote server"
    salted = {p.arm for p in run.phases if p.salts}
    if "jit" in salted:
        yield Finding(
            "warning",
            check,
            "jit is emulated: every request had a cache salt of its own, so that none could hit, "
            "while the server's cache itself stayed on and was filled by it",
        )
    if salted - {"jit"}:
        arms = " and ".join(sorted(salted - {"jit"}))
        detail = f"{arms} started empty by a fresh cache salt; the server was not restarted"
        yield Finding("ok", check, detail)
    if run.phases:
        detail = "server counters include whatever else was sent to it meanwhile"
        yield Finding("ok", check, detail)


def _all_warm(warmed: list[dict[str, Any]] | None) -> bool:
    return warmed is not None and all(w["verified"] for w in warmed)


def jit_hits(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
    check = "no cache hit in jit"
    if "jit" not in run.arms:
        return
    client = frame.loc[frame["arm"] == "jit", "cached_tokens"]
    server = sum((p.counters.hit_tokens or 0) for p in run.of_arm("jit") if p.counters)
    if client.sum() > 0 or server > 0:
        detail = f"jit hit {client.sum():.0f} tokens (client), {server:.0f} (server)"
        yield Finding("void", check, detail)
    elif client.isna().all() and not any(p.counters for p in run.of_arm("jit")):
        yield Finding("warning", check, "neither client nor server reports cached tokens")
    else:
        yield Finding("ok", check, "0 cached tokens, by client and by server")


def counters(run: ServerRun) -> Iterator[Finding]:
    check = "engine counters over the replay"
    known = [p for p in run.phases if p.counters]
    preempted = {
        p.name: p.counters.preemptions for p in known if p.counters and p.counters.preemptions
    }
    restarted = [f"{p.name}: {p.restarted}" for p in run.phases if p.restarted]
    if restarted:
        detail = f"the engine restarted during the replay ({'; '.join(restarted)})"
        yield Finding("void", check, detail)
    if preempted:
        yield Finding("void", check, f"preempted requests: {preempted}; the KV cache is too small")
    short = [text for p in known if (text := _uncounted(p))]
    if short:
        yield Finding("warning", check, "; ".join(short))
    if len(known) < len(run.phases):
        yield Finding("warning", check, "not scraped in every phase")
    elif not (restarted or preempted or short):
        yield Finding("ok", check, "no preemption, no restart")


def _uncounted(phase: Phase) -> str | None:
    """Whether more was answered than the engine says it has processed: then it began anew within
    the replay, or others answer there, too, and its counters are not of this replay."""
    answered = phase.records.loc[phase.records["error"].isna(), "prompt_tokens"].sum()
    counted = phase.counters.prompt_tokens if phase.counters else None
    if counted is None or answered <= counted * (1 + RATIO_TOLERANCE):
        return None
    return (
        f"{phase.name}: clients were answered {answered:,.0f} prompt tokens, and the engine "
        f"counted {counted:,.0f}: it was restarted, or is not the only one that answers"
    )


def _apart(counters: CacheCounters | None) -> float | None:
    """How far apart the engine's two counts of hits are, as a share of the prompt tokens."""
    if counters is None or not counters.prompt_tokens:
        return None
    first, second = counters.hit_tokens, counters.second_hit_tokens
    return None if first is None or second is None else abs(first - second) / counters.prompt_tokens


def second_count(run: ServerRun) -> Iterator[Finding]:
    """The engine counts hits in two places; they should not contradict each other."""
    check = "the engine's own two counts of hits agree"
    apart = {p.name: x for p in run.phases if (x := _apart(p.counters)) is not None}
    if not apart:
        return
    name, worst = max(apart.items(), key=lambda pair: pair[1])
    detail = f"at most {worst:.2%} of the prompt tokens apart ({name}), limit {RATIO_TOLERANCE:.0%}"
    yield Finding("warning" if worst > RATIO_TOLERANCE else "ok", check, detail)


def hit_ratios(summary: dict[str, Any]) -> Iterator[Finding]:
    check = "three hit ratios agree within 1 %"
    apart, alone = [], []
    for arm, numbers in summary["arms"].items():
        cache = numbers["cache"]
        # Which replica a request meets is the router's choice: one cache for all is the bound then.
        sources = ["client", "server", *([] if numbers["routing"] else ["expected"])]
        if numbers["cancels"]:  # clients know nothing of those that the engine counted, too
            sources.remove("server")
        three = [cache[f"{k}_hit_ratio"] for k in sources]
        known = [r for r in three if r is not None]
        if len(known) < 2:
            alone.append(arm)
        elif max(known) - min(known) > RATIO_TOLERANCE:
            shown = ["not reported" if r is None else f"{r:.4f}" for r in three]
            pairs = zip(sources, shown, strict=True)
            apart.append(f"{arm}: " + ", ".join(f"{source} {ratio}" for source, ratio in pairs))
    if apart:
        yield Finding("warning", check, "; ".join(apart))
    if alone:
        detail = f"nothing to compare in {', '.join(alone)}: fewer than two are reported"
        yield Finding("warning", check, detail)
    if not (apart or alone):
        yield Finding("ok", check, "client, server and expectation, where reported")


def impossible_hits(run: ServerRun, summary: dict[str, Any]) -> Iterator[Finding]:
    """More found than what this traffic and its warming can have left: there was more in the cache,
    or the counting is of something else, and either way the arm is not what it is called."""
    check = "no more hits than possible"
    beyond = []
    for arm, numbers in summary["arms"].items():
        cache = numbers["cache"]
        possible = cache["expected_hit_ratio"]
        # The counters of a server that others use, too, are of their traffic as well; and those of
        # one on which clients hang up, of requests that have no answer.
        alone = not (run.remote or numbers["cancels"])
        for source in ("client", "server") if alone else ("client",):
            found = cache[f"{source}_hit_ratio"]
            if None not in (found, possible) and found > possible + RATIO_TOLERANCE:
                beyond.append(f"{arm}: {source} {found:.4f}, possible {possible:.4f}")
    if beyond:
        detail = f"{'; '.join(beyond)}: the cache held what was there before"
        yield Finding("void", check, detail)


def capacity(run: ServerRun) -> Iterator[Finding]:
    check = "prompts fit into the KV cache"
    facts = next((p.facts for p in run.phases if p.facts and p.arm != "jit"), None)
    if run.tokens is None or facts is None or not facts.block_tokens or not facts.capacity_tokens:
        return
    working_set = oracle.distinct_tokens(run.tokens.values(), facts.block_tokens)
    replicas = max(len(p.replicas) for p in run.phases)
    capacity_tokens = facts.capacity_tokens * max(replicas, 1)
    detail = f"working set {working_set:,} tokens, capacity {capacity_tokens:,} tokens"
    detail += f" over {replicas} replicas" if replicas else ""
    if working_set > capacity_tokens:
        detail += "; expected hits are an upper bound, because eviction is not modelled"
        yield Finding("warning", check, detail)
    else:
        yield Finding("ok", check, detail)
