"""What a reader should do next, and what not to conclude: each line follows from a number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aot.analysis.checks.finding import Finding
from aot.analysis.inference.starts import ENOUGH

WORDS = (
    ("jit", "every prompt is computed in full: the cache is off"),
    ("auto", "the cache is on and starts empty, which is what an engine does unless told"),
    ("aot", "the cache is on, and the static prompts were put into it before traffic"),
    ("mended", "as auto, on the same requests with the flaws of their prompts mended"),
    ("store", "as aot, with a store beside the engine that keeps blocks, too"),
    ("restarted", "engine and store were ended and started again: what is found is the store's"),
    ("TTFT", "time to first token: from sending a request to the first piece of its answer"),
)
"""The few words one needs to read on."""
WELL_BELOW = 0.95
"""Of what could be found: below it, something keeps the cache from being used."""
FEW_FOR_TAILS = 100


def next_steps(numbers: Mapping[str, Any], findings: list[Finding]) -> list[str]:
    """In the order of their weight."""
    if any(f.level == "void" for f in findings):
        return ["Mend what is said in red, and measure again: nothing else here counts."]
    return [*_steps(numbers, findings), *_open(numbers)] or [
        "Nothing: this run answers what it asked."
    ]


def _open(numbers: Mapping[str, Any]) -> Iterator[str]:
    """What this run leaves unanswered."""
    ratios = [
        r
        for r in numbers["comparison"]["ratios"]
        if (r["metric"], r["quantile"]) == ("ttft_s", "p50")
    ]
    if not ratios:
        yield "Measure a second arm: one alone is compared with nothing."
    if any(r["verdict"] is None for r in ratios):
        yield "Send more requests: there are too few to compare arms by."
    close = [r for r in ratios if r["verdict"] == "inconclusive" and not r["repeats_needed"]]
    for ratio in close:
        yield f"Leave {ratio['before']} ÷ {ratio['after']} open: it is too close to call."


def _steps(numbers: Mapping[str, Any], findings: list[Finding]) -> Iterator[str]:
    answers = numbers["answers"]
    first = answers["caching"] or answers["both"]
    if first and first["verdict"] == "effect" and first["ratio"] > 1:
        yield "Keep prefix caching on: on this traffic it pays."
    elif first and first["verdict"] == "none":
        yield (
            "Do not expect caching to help this traffic as it is: see how long the static part is "
            "and what breaks its reuse, with 'aot lint' on the prompts or a log."
        )
    compiling = answers["compiling"]
    cold = compiling["cold"] if compiling else None
    if cold and cold["requests"] and cold["extra_s"] is not None:
        yield (
            "Where a cold start hurts (a deploy, a restart, a new tenant), run 'aot warm' before "
            "traffic; where a few slow first requests do not matter, auto is enough."
        )
    for arm in ("auto", "aot"):
        achieved = numbers["arms"].get(arm, {}).get("cache", {}).get("achieved_of_reachable")
        if achieved is not None and achieved < WELL_BELOW:
            yield (
                f"{arm} found {achieved:.0%} of what could be found: 'Where the prompt tokens "
                "went' says why; 'aot oracle' says what a larger cache would find."
            )
    if any(f.level == "warning" and f.check == "no queue that grows" for f in findings):
        yield "Measure at a lower rate as well: 'aot capacity' finds the highest that holds."
    yield from _repeats(first)


def _repeats(ratio: Mapping[str, Any] | None) -> Iterator[str]:
    if ratio and ratio["verdict"] == "inconclusive" and ratio["repeats_needed"]:
        yield f"Settle it: set 'repeats: {ratio['repeats_needed']}' in the experiment file."
    elif ratio and ratio["repeats"] < ENOUGH and ratio["verdict"]:
        yield (
            f"Before this decides anything, set 'repeats: {ENOUGH}' or more in the experiment "
            "file, or measure once how starts of the server differ: 'aot calibrate'."
        )


def not_to_conclude(
    numbers: Mapping[str, Any], machine: Mapping[str, Any], is_remote: bool
) -> Iterator[str]:
    """What these numbers do not say."""
    if not machine.get("gpus") and not is_remote:
        yield (
            "That a GPU would give these numbers: this was measured on a CPU, where a prompt takes "
            "many times as long. Which arm is faster carries over; by how much does not."
        )
    answers = numbers["answers"]
    ratio = answers["caching"] or answers["both"] or (answers["compiling"] or {}).get("ratio")
    if ratio and ratio["repeats"] < ENOUGH:
        yield (
            f"That small differences are real: with {ratio['repeats']} repeat"
            f"{'' if ratio['repeats'] == 1 else 's'} of an arm its start cannot be told from it. "
            f"Intervals allow for that ({numbers['comparison']['starts']['words']})."
        )
    counts = [arm["requests"]["ok"] for arm in numbers["arms"].values()]
    if counts and min(counts) < FEW_FOR_TAILS:
        few = min(counts)
        yield f"Anything of tails: a p99 needs {FEW_FOR_TAILS} requests, and an arm has {few}."
    yield (
        "That other traffic behaves alike: the gain is that of these lengths, this sharing and "
        "this rate."
    )
