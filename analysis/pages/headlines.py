"""The sentences at the top of a report: what was measured, or why nothing can be said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aot.analysis.checks.finding import Finding
from aot.analysis.pages.formats import rounded_ratio, seconds

NO_COMPARISON = "No comparison"
VOID = "This run is void: what is said below in red means that its numbers must not be used."
MEDIAN = "the median time to first token"


def of_server(numbers: dict[str, Any], findings: list[Finding]) -> list[str]:
    """One sentence for each question that one server's run answers; `numbers` are its summary."""
    if any(f.level == "void" for f in findings):
        return [VOID]
    answers = numbers["answers"]
    caching, both = answers["caching"], answers["both"]
    lines = []
    shown = caching and caching["verdict"] in ("effect", "none")
    if both and not shown:
        lines.append(_caching(both, "aot", alone=caching is None))
    if caching:
        lines.append(_caching(caching, "auto"))
    lines += _further(numbers)
    if not lines:
        have = ", ".join(numbers["arms"]) or "none"
        need = "it needs answered requests in jit and aot, or in another two arms"
        return [f"{NO_COMPARISON}: {need} (arms with data: {have})."]
    if answers["floor"] and answers["floor"]["ratio"] is not None:
        lines.append(_floor(answers["floor"]))
    return lines


def _further(numbers: dict[str, Any]) -> list[str]:
    """What compiling, mending and a restart do, of those that were measured."""
    answers = numbers["answers"]
    lines = []
    if answers["compiling"]:
        lines.append(_compiling(answers["compiling"]))
    if answers.get("mending"):
        lines.append(_mending(answers["mending"], numbers["arms"]))
    if answers.get("restart"):
        lines.append(_restart(answers["restart"]))
    return lines


def _caching(ratio: Mapping[str, Any], arm: str, alone: bool = False) -> str:
    """`alone`: nothing tells what the cache alone would have given."""
    values = f"{seconds(ratio['before_value'])} in jit, {seconds(ratio['after_value'])} in {arm}"
    subject = (
        "With prefix caching"
        if arm == "auto"
        else "With the static prompts in the cache before traffic"
    )
    line = _told(ratio, subject, values)
    if alone and ratio["verdict"] == "effect":
        line += " How much of that is caching and how much compiling, only an auto arm would tell."
    return line


def _told(ratio: Mapping[str, Any], subject: str, values: str) -> str:
    """One comparison in words, as sure as its verdict."""
    name = f"{ratio['before']} ÷ {ratio['after']}"
    if ratio["ratio"] is None:
        return f"{subject} nothing can be said of {MEDIAN}: {name} has no ratio, {values}."
    times = rounded_ratio(ratio["ratio"])
    if ratio["verdict"] is None:
        return (
            f"Too few answered requests to tell: over {ratio['pairs']} of them {MEDIAN} of {name} "
            f"is {times}, {values}."
        )
    between = interval(ratio["next_ci95"])
    if ratio["verdict"] == "none":
        return f"{subject} {MEDIAN} is the same: {name} is {times}{between}, {values}."
    if ratio["verdict"] == "inconclusive":
        words = ratio["verdict_words"].removeprefix("inconclusive: ")
        return (
            f"{subject} {MEDIAN} may or may not differ: {name} is {times}{between}, {values}; "
            f"{words}."
        )
    if ratio["ratio"] >= 1:
        return f"{subject} {MEDIAN} is {times} times lower{between}: {values}."
    return f"{subject} {MEDIAN} is not lower: {name} is {times}{between}, {values}."


def _compiling(compiling: Mapping[str, Any]) -> str:
    ratio = compiling["ratio"]
    values = f"{seconds(ratio['before_value'])} in auto, {seconds(ratio['after_value'])} in aot"
    line = _told(ratio, "Compiled ahead of time as well,", values)
    cold, warming = compiling["cold"], compiling["warming"]
    if cold and cold["requests"] and cold["extra_s"] is not None:
        line += (
            f" It spares cold starts: {cold['requests']} of {cold['of']} requests in auto were the "
            f"first of their static prefix, and waited {seconds(cold['extra_s'])} longer."
        )
    if warming:
        line += (
            f" Warming took {seconds(warming['prefill_s'])} for {warming['prefixes']} "
            f"prefix{'' if warming['prefixes'] == 1 else 'es'}, before the clock."
        )
    return line


def _mending(ratio: Mapping[str, Any], arms: Mapping[str, Any]) -> str:
    values = f"{seconds(ratio['before_value'])} in auto, {seconds(ratio['after_value'])} in mended"
    line = _told(ratio, "With the flaws of the prompts mended as well,", values)
    found = [arms[arm]["cache"]["client_hit_ratio"] for arm in ("auto", "mended")]
    if None not in found:
        line += (
            f" The cache finds {found[0]:.1%} of the prompt tokens now, and {found[1]:.1%} then."
        )
    return line


def _restart(restart: Mapping[str, Any]) -> str:
    """What a restart costs, and what the store saves of it. Medians as they were seen: a few first
    requests make no interval."""
    store = restart["store"]
    line = (
        f"After a restart of engine and store, the first {store['requests']} requests of their "
        f"static prefixes waited {seconds(store['ttft_p50_s'])} at the median"
    )
    if store["cached_tokens"] is not None and store["prompt_tokens"]:
        found = store["cached_tokens"]
        line += f", with {found:,.0f} of {store['prompt_tokens']:,.0f} tokens from the store"
    others = [
        f"{seconds(restart[kind]['ttft_p50_s'])} {words}"
        for kind, words in (("cold", "without a store"), ("device", "where all was warm"))
        if restart[kind]
    ]
    return f"{line}; {', '.join(others)}." if others else f"{line}."


def _floor(floor: Mapping[str, Any]) -> str:
    return (
        f"What is left is {rounded_ratio(floor['ratio'])} times the floor: one request at a time "
        f"takes {seconds(floor['with_prefix_s'])}, its dynamic part alone "
        f"{seconds(floor['suffix_alone_s'])}."
    )


def of_run(parts: list[tuple[str, list[str]]], between: list[dict[str, Any]]) -> list[str]:
    """The sentences of all servers, and how they compare in the aot arm; `parts`: (name, lines)."""
    if len(parts) == 1:
        return parts[0][1]
    arm = "aot" if any(b["arm"] == "aot" for b in between) else "auto"
    void = {name for name, lines in parts if lines == [VOID]}
    against = [
        _against(b)
        for b in between
        if b["arm"] == arm and b["ttft_p50_ratio"] is not None and not void & set(b["servers"])
    ]
    # Where only servers are compared, that an arm is missing is no news.
    told = [p for p in parts if not (against and p[1][0].startswith(NO_COMPARISON))]
    return [*(f"{name}: {line}" for name, lines in told for line in lines), *against]


def _against(pair: dict[str, Any]) -> str:
    first, second = pair["servers"]
    before, after = pair["paired_ttft_p50_s"]
    ratios = pair["client_hit_ratios"]
    hits = f"; hit ratios {ratios[0]:.1%} and {ratios[1]:.1%}" if None not in ratios else ""
    return (
        f"Median TTFT in {pair['arm']}, {first} ÷ {second}, is "
        f"{rounded_ratio(pair['ttft_p50_ratio'])}{interval(pair['ttft_p50_ratio_ci95'])}: "
        f"{seconds(before)} and {seconds(after)}{hits}."
    )


def interval(ends: tuple[float, float] | None) -> str:
    if not ends:
        return " (too few pairs for an interval)"
    return f" (95 % interval {rounded_ratio(ends[0])}–{rounded_ratio(ends[1])})"
