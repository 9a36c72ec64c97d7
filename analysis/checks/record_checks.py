"""Judge the records themselves: what cannot be, contradicts itself, or is of other traffic.

A report of wrong records is worse than none, so what cannot be voids the run: either the records
were altered, or whatever wrote them (a gateway, a server) does not measure what it says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aot.analysis.checks.finding import Finding, Level
from aot.analysis.measures import streaming
from aot.analysis.runs.run import ServerRun
from aot.configs.schema.experiment import MENDED

CHECK = "records agree with themselves"
STREAM = "answers came as they were generated"
SAME_S = 1e-4
"""Times that say the same differ by rounding only."""
EXAMPLES = 3
RESENT = 0.05
"""Of the requests: with more of them, the wait for the first try is in the times."""


@dataclass(frozen=True, slots=True)
class _Rule:
    """`broken`: which of the answered requests break it, by their frame."""

    words: str
    broken: Callable[[pd.DataFrame], pd.Series]
    level: Level = "void"


def _apart(frame: pd.DataFrame, one: str, other: str) -> pd.Series:
    return (frame[one] - frame[other]).abs() > SAME_S


RULES = (
    _Rule("have a first token at another time than their first chunk",
          lambda f: _apart(f, "first_token_s", "first_chunk_s")),
    _Rule("have a last token at another time than their last chunk",
          lambda f: _apart(f, "last_token_s", "last_chunk_s")),
    _Rule("have no times of chunks", lambda f: f["first_chunk_s"].isna()),
    _Rule("have chunks whose times run backwards", lambda f: f["least_gap_s"] < 0),
    _Rule("were sent before they were due", lambda f: f["lateness_s"] < -SAME_S),
    _Rule("were sent before the replay began", lambda f: f["sent_s"] < 0),
    _Rule("took no time at all", lambda f: f["ttft_s"] == 0),
    _Rule("report fewer than 0 cached tokens", lambda f: f["cached_tokens"] < 0),
    _Rule("report more cached tokens than the prompt has",
          lambda f: f["cached_tokens"] > f["prompt_tokens"]),
    _Rule("report a prompt of no tokens", lambda f: f["prompt_tokens"] <= 0),
    _Rule("have text, and report no output tokens", lambda f: f["output_tokens"] <= 0),
    _Rule("do not report their output tokens", lambda f: f["output_tokens"].isna()),
    _Rule("have text under a status of failure",
          lambda f: f["status"].notna() & ~f["status"].between(200, 299)),
    _Rule("have more chunks with text than tokens",
          lambda f: f["gaps"] + 1 > streaming.visible_tokens(f), "warning"),
    _Rule("count more hidden tokens than were generated",
          lambda f: f["hidden_tokens"] > f["output_tokens"]),
    _Rule("are several alternatives, whose tokens are counted together", lambda f: f["choices"] > 1,
          "warning"),
)  # fmt: skip
"""What an answered request cannot be."""


def check(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
    """All of it; one finding of level ok where nothing is wrong."""
    good = frame[frame["ok"]]
    broken = [
        Finding(rule.level, CHECK, f"{_named(good, wrong)} {rule.words}")
        for rule in RULES
        if (wrong := rule.broken(good)).any()
    ]
    broken += [*_numbers(frame), *_headless(run), *_of_schedule(run, frame)]
    yield from broken or [Finding("ok", CHECK, "times, counts and states of every answer")]


def _named(frame: pd.DataFrame, wrong: pd.Series) -> str:
    rows = frame[wrong.fillna(value=False).astype(bool)]
    ids = ", ".join(f"{r.id} in {r.arm}" for r in rows.head(EXAMPLES).itertuples())
    return f"{len(rows)} of {len(frame)} answers ({ids})"


def stream(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
    """What the chunks are worth: did they come as they were generated, and is each a token?"""
    good = frame[frame["ok"]]
    found = [*_buffered(good), *_merged(good), *_hidden(good), *_beyond(run, good), *_resent(frame)]
    yield from found or [Finding("ok", STREAM, "chunk by chunk, each a token")]


def _buffered(good: pd.DataFrame) -> Iterator[Finding]:
    if streaming.is_buffered(good):
        whole = streaming.in_one_piece(good)
        yield Finding(
            "warning",
            STREAM,
            f"not streamed: {_named(good, whole)} of several tokens came in one piece, and "
            f"{streaming.chunks_per_read(good) or 1:.1f} chunks a read on average. Something on "
            "the way buffers the stream, so that TTFT is too late (of one piece it is E2E), and "
            "there is no TPOT and no ITL; turn that off (nginx: proxy_buffering off, gzip off)",
        )
        return
    together = streaming.chunks_per_read(good)
    if together is not None and together > streaming.MERGED:
        detail = f"{together:.2f} chunks came in one read on average: some ITL are 0 for that"
        yield Finding("warning", STREAM, detail)


def _merged(good: pd.DataFrame) -> Iterator[Finding]:
    of_arm = streaming.of_arm(good)
    if of_arm["merged"] and not streaming.is_buffered(good):
        yield Finding(
            "warning",
            STREAM,
            f"chunks are not tokens: {of_arm['tokens_per_chunk']:.2f} tokens a chunk on average "
            "(speculative decoding, or a stream that was merged on the way), so that ITL is per "
            "chunk; ITL per token stands beside it",
        )


def _hidden(good: pd.DataFrame) -> Iterator[Finding]:
    hidden = good["hidden_tokens"].sum()
    if hidden > 0:
        share = hidden / good["output_tokens"].sum()
        yield Finding(
            "warning",
            STREAM,
            f"{hidden:,.0f} generated tokens ({share:.0%}) were not sent (hidden reasoning): they "
            "are part of TTFT, and are counted in no TPOT; output tokens per second include them",
        )


def _beyond(run: ServerRun, good: pd.DataFrame) -> Iterator[Finding]:
    """More generated than was asked for."""
    if run.schedule is None:
        return
    asked = {r.id: run.schedule.output_tokens(r) for r in run.schedule.requests}
    beyond = good["output_tokens"] > good["id"].map(asked).astype("float64")
    if beyond.any():
        detail = f"{_named(good, beyond)} have more tokens than were asked for"
        yield Finding("warning", STREAM, f"{detail}: the server does not keep to max_tokens")


def _resent(frame: pd.DataFrame) -> Iterator[Finding]:
    again = frame["resent"].eq(other=True)
    if again.any():
        level: Level = "warning" if again.mean() > RESENT else "ok"
        detail = f"{int(again.sum())} requests went twice: the server had closed a kept connection"
        yield Finding(level, STREAM, detail)


def _numbers(frame: pd.DataFrame) -> Iterator[Finding]:
    times = frame[["planned_s", "sent_s", "first_token_s", "last_token_s"]].to_numpy(dtype=float)
    endless = int(np.isinf(times).any(axis=1).sum())
    if endless:
        yield Finding("void", CHECK, f"{endless} records have a time that is infinite")


def _headless(run: ServerRun) -> Iterator[Finding]:
    files = [f"{p.name}/{name}" for p in run.phases for name in p.headless]
    if files:
        detail = f"{', '.join(files)}: no header, so nothing says which replay these records are of"
        yield Finding("void", CHECK, detail)


def _of_schedule(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
    """Every record is of a request of the schedule that its arm replayed."""
    if run.mended:
        yield from _of_one_schedule(run.mended, frame[frame["arm"] == MENDED])
        frame = frame[frame["arm"] != MENDED]
    yield from _of_one_schedule(run, frame)


def _of_one_schedule(run: ServerRun, frame: pd.DataFrame) -> Iterator[Finding]:
    """Every record is of a request of the schedule, as it is planned there."""
    if run.schedule is None or frame.empty:
        return
    planned = pd.DataFrame(
        [(r.id, r.tenant, r.prefix, r.at_s, r.after is None) for r in run.schedule.requests],
        columns=["id", "its tenant", "its prefix", "its at_s", "is first"],
    )
    both = frame.merge(planned, on="id", how="left")
    unknown = both["its tenant"].isna()
    other = ~unknown & (
        (both["tenant"] != both["its tenant"]) | (both["prefix"] != both["its prefix"])
    )
    is_first = both["is first"].fillna(value=False).astype(bool)
    moved = is_first & ((both["planned_s"] - both["its at_s"]).abs() > SAME_S)
    for wrong, words in (
        (unknown, "are of no request of the schedule"),
        (other, "have another tenant or prefix than the schedule's"),
        (moved, "have another planned time than the schedule's"),
    ):
        if wrong.any():
            ids = ", ".join(both.loc[wrong, "id"].astype(str).head(EXAMPLES))
            yield Finding("void", CHECK, f"{int(wrong.sum())} records ({ids}) {words}")
    if run.schedule.mode == "open" and (is_first & both["planned_s"].isna()).any():
        yield Finding("void", CHECK, "records of an open loop say not when they were due")


def facts(run: ServerRun) -> Iterator[Finding]:
    """What the engine said of its cache, against the arm."""
    if run.remote:  # whose jit is emulated, and proved by the canary
        return
    wrong = [
        f"{p.name}: prefix caching {'on' if p.facts.enabled else 'off'}"
        for p in run.phases
        if p.facts and p.facts.enabled is not None and p.facts.enabled != (p.arm != "jit")
    ]
    wrong += [
        f"{p.name}: its proof is of arm {p.proof['arm']}"
        for p in run.phases
        if p.proof and p.proof.get("arm", p.arm) != p.arm
    ]
    if wrong:
        detail = f"the engine's own words contradict the arm: {'; '.join(wrong)}"
        yield Finding("void", "cache state proved before each arm", detail)
