"""A capacity search as a page: the highest rate of each arm that kept the limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib import pyplot as plt

from aot.analysis.pages.figures import COLOR, MARKER, SIZE, Figure, dress, save
from aot.analysis.pages.formats import number, seconds
from aot.analysis.studies import slo, study, study_page
from aot.analysis.studies.rate_search import Bracket, Tried, bracket
from aot.analysis.studies.slo import Limit, Outcome
from aot.analysis.studies.study import StudyRun
from aot.analysis.studies.study_page import Page, Table
from aot.configs.loading.settings import SHORT


@dataclass(frozen=True, slots=True)
class Rate:
    """One rate of one arm. `decided` is None where more repeats were needed and are not there."""

    arm: str
    rate_per_s: float
    outcomes: list[Outcome]
    decided: Outcome | None


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an arm can take, with all that was tried."""

    arm: str
    bracket: Bracket
    rates: list[Rate]


def capacities(read: StudyRun, limits: list[Limit]) -> list[Capacity]:
    """Of every arm of which a rate was measured, in the order of the experiment."""
    by_rate: dict[tuple[str, float], list[Outcome]] = {}
    for point in read.points:
        if point.evaluation and point.label not in read.missing:
            [arm] = point.changes["experiment.arms"]
            outcome = slo.check(point.evaluation, arm, limits)
            by_rate.setdefault((arm, point.changes[SHORT["rate"]]), []).append(outcome)
    rates = [Rate(arm, r, got, slo.decided(got)) for (arm, r), got in by_rate.items()]
    per_arm = []
    for arm in dict.fromkeys(r.arm for r in rates):
        own = sorted((r for r in rates if r.arm == arm), key=lambda r: r.rate_per_s)
        tried = [Tried(r.rate_per_s, r.decided.kept) for r in own if r.decided]
        per_arm.append(Capacity(arm, bracket(tried), own))
    return per_arm


def of_folder(folder: Path, tell: Callable[[str], None] = lambda _: None) -> tuple[StudyRun, Page]:
    """Read the search in `folder` with its points' own reports, and write its page."""
    read = study.read(folder, write_points=True, tell=tell)
    limits = [slo.limit(text) for text in read.facts["options"]["slo"]]
    per_arm = capacities(read, limits)
    contents = page(read, limits, per_arm)
    study_page.write(read, contents)
    return read, contents


def page(read: StudyRun, limits: list[Limit], per_arm: list[Capacity]) -> Page:
    words = " and ".join(x.words for x in limits)
    requests = read.facts["options"]["requests"]
    return Page(
        title=f"requests a second within {words}",
        headlines=[*_headlines(per_arm, words), *map(_of_arm, per_arm)],
        warnings=_warnings(limits, requests),
        tables=[_table(per_arm, limits), study_page.numbers(read.rows)],
        figures=_draw(per_arm, limits, read.folder / "figures"),
        method=[
            f"Each rate is a replay of {requests} requests in an open loop on an empty cache. It "
            "keeps the limits when every request was answered, every quantile is at most its "
            "limit, and the requests in flight do not grow from the first to the last third.",
            "The search doubles or halves the rate until it has one that keeps the limits and one "
            "that does not, then halves the gap between them on a log scale. A rate whose worst "
            f"quantile is within a factor of {slo.EDGE:g} of its limit is measured "
            f"{slo.REPEATS} times at most, and the majority decides.",
            "A capacity is the highest rate that kept the limits; the true one lies between it "
            "and the lowest that did not. Ratios are given with the bounds that follow from both.",
            "The schedule of a rate has the same requests in every arm. Another draw of arrivals "
            "would move a capacity somewhat: repeat the search with another seed to see how far.",
        ],
    )


def _headlines(per_arm: list[Capacity], words: str) -> list[str]:
    at = {c.arm: c.bracket for c in per_arm}
    lines = []
    for arm in ("aot", "auto"):
        if "jit" not in at or arm not in at:
            continue
        jit, own = at["jit"], at[arm]
        if jit.kept_per_s and own.kept_per_s:
            bounds = _bounds(jit, own)
            lines.append(
                f"The same machine serves {own.kept_per_s / jit.kept_per_s:.1f}× the requests with "
                f"{arm}: {number(own.kept_per_s)} instead of {number(jit.kept_per_s)} requests/s "
                f"within {words}{bounds}"
            )
        elif own.kept_per_s and jit.missed_per_s:
            lines.append(
                f"{arm} serves {number(own.kept_per_s)} requests/s within {words}; jit kept it at "
                f"no rate tried, down to {number(jit.missed_per_s)} requests/s"
            )
    return lines


def _bounds(jit: Bracket, own: Bracket) -> str:
    assert jit.kept_per_s
    assert own.kept_per_s
    if jit.missed_per_s is None or own.missed_per_s is None:
        return ""
    low, high = own.kept_per_s / jit.missed_per_s, own.missed_per_s / jit.kept_per_s
    return f" (the ratio is between {low:.1f} and {high:.1f})"


def _of_arm(capacity: Capacity) -> str:
    kept, missed = capacity.bracket.kept_per_s, capacity.bracket.missed_per_s
    if kept is None:
        return (
            f"{capacity.arm}: no rate tried keeps the limits, down to {number(missed)} requests/s"
        )
    if missed is None:
        return (
            f"{capacity.arm}: keeps the limits up to {number(kept)} requests/s, the highest tried"
        )
    return f"{capacity.arm}: keeps the limits at {number(kept)} requests/s, not at {number(missed)}"


def _warnings(limits: list[Limit], requests: int) -> list[str]:
    tail = [x for x in limits if x.what.quantile == "p99"]
    if tail and requests < 100:
        return [
            f"{requests} requests a rate: their {tail[0].what.quantile} is the slowest of them; "
            "100 or more make it a quantile"
        ]
    return []


def _table(per_arm: list[Capacity], limits: list[Limit]) -> Table:
    rows = []
    for capacity in per_arm:
        for rate in capacity.rates:
            values = [
                ", ".join(seconds(o.values[n]) for o in rate.outcomes) for n in range(len(limits))
            ]
            verdict = "open" if rate.decided is None else "kept" if rate.decided.kept else "missed"
            why = rate.decided.why if rate.decided else "more repeats are needed"
            rows.append([capacity.arm, number(rate.rate_per_s), *values, verdict, why or "–"])
    columns = ["arm", "requests/s", *(x.what.words for x in limits)]
    caption = "Every rate that was tried; several values are repeats of a rate near the edge."
    return Table("Rates", [*columns, "limits", "why"], rows, caption)


def _draw(per_arm: list[Capacity], limits: list[Limit], folder: Path) -> list[Figure]:
    return [_draw_limit(per_arm, n, x, folder) for n, x in enumerate(limits)] if per_arm else []


def _draw_limit(per_arm: list[Capacity], n: int, x: Limit, folder: Path) -> Figure:
    what = x.what.words
    figure, ax = plt.subplots(figsize=SIZE, layout="constrained")
    for capacity in per_arm:
        points = [
            (r.rate_per_s, o.values[n])
            for r in capacity.rates
            for o in r.outcomes
            if o.values[n] is not None
        ]
        if points:
            xs, ys = zip(*points, strict=True)
            ax.plot(xs, ys, "-", color=COLOR[capacity.arm], marker=MARKER[capacity.arm],
                    label=capacity.arm, markersize=5)  # fmt: skip
        if capacity.bracket.kept_per_s:
            ax.axvline(capacity.bracket.kept_per_s, color=COLOR[capacity.arm], linestyle=":")
    ax.axhline(x.most_s, color="black", linewidth=0.8)
    dress(ax, f"{what} against the rate", "planned requests / s (log scale)",
          f"{what}, s (log scale)", log_x=True, log_y=True)  # fmt: skip
    name = f"{x.what.column.removesuffix('_s')}_{x.what.quantile}_by_rate.svg"
    about = Figure(
        name,
        f"{what} against the rate",
        f"Every replay. The black line is the limit; a dotted line is the highest rate at which "
        f"that arm kept all limits, at most {seconds(x.most_s)} of {what} among them.",
    )
    return save(figure, about, folder)
