"""The sentence at the top of a report: the measured ratio, or why there is none."""

from __future__ import annotations

from typing import Any

from aot.analysis.checks.finding import Finding
from aot.analysis.pages.formats import seconds

NO_COMPARISON = "No comparison"


def of_server(numbers: dict[str, Any], findings: list[Finding]) -> str:
    """One sentence for one server; `numbers` are its arms and comparison."""
    compared, arms = numbers["comparison"], numbers["arms"]
    ratio, interval = compared["ttft_p50_speedup"], compared["ttft_p50_speedup_ci95"]
    if any(f.level == "void" for f in findings):
        return "This run is void: at least one check below says that its numbers must not be used."
    if ratio is None:
        have = ", ".join(arms) or "none"
        return (
            f"{NO_COMPARISON}: it needs answered requests in jit and aot (arms with data: {have})."
        )
    # The medians of the paired requests, so that the sentence agrees with itself.
    before, after = (compared["paired_ttft_p50_s"][a] for a in ("jit", "aot"))
    sure = _interval(interval)
    values = f"{seconds(before)} in jit, {seconds(after)} in aot"
    start = "With the static prompts compiled ahead of time, the median time to first token is "
    if compared["verdict"] is None:
        return (
            f"Too few answered requests to tell: over {compared['pairs']} of them the median time "
            f"to first token of jit ÷ aot is {ratio:.1f}, {values}."
        )
    if compared["verdict"] == "none":
        return f"{start}the same: jit ÷ aot is {ratio:.2f}{_interval(interval, 2)}, {values}."
    if compared["verdict"] == "inconclusive":
        words = compared["verdict_words"].removeprefix("inconclusive: ")
        return (
            "Whether compiling ahead of time lowers the median time to first token is not settled: "
            f"jit ÷ aot is {ratio:.2f}{_interval(interval, 2)}, {values}; {words}."
        )
    if ratio >= 1:
        return f"{start}{ratio:.1f} times lower{sure}: {values}."
    return f"{start}not lower: jit ÷ aot is {ratio:.2f}{_interval(interval, 2)}, {values}."


def of_run(parts: list[tuple[str, str]], between: list[dict[str, Any]]) -> str:
    """The sentences of all servers, and how they compare in the aot arm; `parts`: (name, one)."""
    if len(parts) == 1:
        return parts[0][1]
    arm = "aot" if any(b["arm"] == "aot" for b in between) else "auto"
    against = [_against(b) for b in between if b["arm"] == arm]
    # Where only servers are compared, that an arm is missing is no news.
    told = [p for p in parts if not (against and p[1].startswith(NO_COMPARISON))]
    return " ".join([*(f"{name}: {sentence}" for name, sentence in told), *against])


def _against(pair: dict[str, Any]) -> str:
    first, second = pair["servers"]
    before, after = pair["paired_ttft_p50_s"]
    ratios = pair["client_hit_ratios"]
    hits = f"; hit ratios {ratios[0]:.1%} and {ratios[1]:.1%}" if None not in ratios else ""
    return (
        f"Median TTFT in {pair['arm']}, {first} ÷ {second}, is {pair['ttft_p50_ratio']:.2f}"
        f"{_interval(pair['ttft_p50_ratio_ci95'], 2)}: "
        f"{seconds(before)} and {seconds(after)}{hits}."
    )


def _interval(interval: tuple[float, float] | None, digits: int = 1) -> str:
    if not interval:
        return " (too few pairs for an interval)"
    return f" (95 % interval {interval[0]:.{digits}f}–{interval[1]:.{digits}f})"
