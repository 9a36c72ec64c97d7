"""A capacity search as a page: the rate up to which each arm keeps the limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

from aot.analysis.inference.starts import Starts
from aot.analysis.pages.figures import COLOR, MARKER, SIZE, Figure, dress, save
from aot.analysis.pages.formats import number, rounded_ratio, seconds
from aot.analysis.studies import rate_search, slo, study, study_page
from aot.analysis.studies.rate_search import Fitted
from aot.analysis.studies.slo import Limit, Outcome
from aot.analysis.studies.study import StudyRun
from aot.analysis.studies.study_page import Page, Table
from aot.configs.loading.settings import SHORT


@dataclass(frozen=True, slots=True)
class Replay:
    """One replay of one arm."""

    arm: str
    rate_per_s: float
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an arm can take, with all that was tried. `found` is None where the replays are not on
    both sides of it."""

    arm: str
    found: Fitted | None
    replays: list[Replay]

    @property
    def usable(self) -> list[Replay]:
        """Without those that are void: they decide nothing."""
        return [r for r in self.replays if r.outcome.trial is not None]


def capacities(read: StudyRun, limits: list[Limit]) -> list[Capacity]:
    """Of every arm of which a rate was measured, in the order of the experiment."""
    replays = []
    for point in read.points:
        if point.evaluation and point.label not in read.missing:
            [arm] = point.changes["experiment.arms"]
            rate = point.changes[SHORT["rate"]]
            replays.append(Replay(arm, rate, slo.check(point.evaluation, arm, limits, rate)))
    return [
        _capacity(arm, [r for r in replays if r.arm == arm], limits, read.starts)
        for arm in dict.fromkeys(r.arm for r in replays)
    ]


def _capacity(arm: str, replays: list[Replay], limits: list[Limit], starts: Starts) -> Capacity:
    trials = [r.outcome.trial for r in replays if r.outcome.trial]
    found = rate_search.fit(trials, [x.allowed for x in limits])
    if found:
        found = found.widened(starts, limits[found.limit].allowed)
    return Capacity(arm, found, replays)


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
        warnings=_warnings(limits, requests, per_arm),
        tables=[_table(per_arm, limits), study_page.numbers(read.rows)],
        figures=[_draw(per_arm, n, x, read.folder / "figures") for n, x in enumerate(limits)]
        if per_arm
        else [],
        method=[
            f"Each replay sends {requests} requests in an open loop on an empty cache, with "
            "arrivals and questions drawn anew; the same ones for the same replay of each arm. The "
            f"first {slo.WARM_UP:.0%} of its requests meet a server that is still empty and are "
            "not counted. A request that was not answered is beyond every limit.",
            "Rates are doubled or halved until one keeps the limits and one does not; then replays "
            "go on around the estimate.",
            "The share of requests beyond a limit is fitted against the rate (logistic; the "
            "scatter of the replays widens the interval), and the capacity is where the curve "
            "crosses the share that the limit allows. In simulated searches such intervals hold "
            "the true capacity, and the true ratio, in 9 of 10 or more.",
            f"All replays of an arm ran on one start of its server; {read.starts.words}, and the "
            "intervals allow for it.",
        ],
    )


def _headlines(per_arm: list[Capacity], words: str) -> list[str]:
    lines = []
    bounded = [c for c in per_arm if c.found and not c.found.is_open]
    for first, second in combinations(bounded, 2):
        assert first.found
        assert second.found
        times, low, high = rate_search.ratio(first.found, second.found)
        between = f"(95 % interval {rounded_ratio(low)}-{rounded_ratio(high)})"
        if low <= 1 <= high:
            lines.append(
                f"Whether {second.arm} serves more than {first.arm} within {words} is not settled: "
                f"{second.arm} ÷ {first.arm} is {rounded_ratio(times)} {between}"
            )
        else:
            lines.append(
                f"Within {words}, {second.arm} serves {rounded_ratio(times)} times the requests "
                f"of {first.arm} {between}"
            )
    return lines


def _of_arm(capacity: Capacity) -> str:
    found, arm = capacity.found, capacity.arm
    if found and found.is_open:
        return (
            f"{arm}: keeps the limits up to about {number(found.rate_per_s)} requests/s; "
            f"{len(capacity.usable)} replays that count are too few to say how sure that is"
        )
    if found:
        return (
            f"{arm}: keeps the limits up to {number(found.rate_per_s)} requests/s (95 % interval "
            f"{number(found.low_per_s)}-{number(found.high_per_s)}, over {len(capacity.usable)} "
            "replays)"
        )
    kept = [r.rate_per_s for r in capacity.usable if r.outcome.kept]
    missed = [r.rate_per_s for r in capacity.usable if not r.outcome.kept]
    if kept and not missed:
        return (
            f"{arm}: keeps the limits at {number(max(kept))} requests/s, the highest that was "
            "offered; its capacity is above that"
        )
    if missed and not kept:
        return f"{arm}: no rate tried keeps the limits, down to {number(min(missed))} requests/s"
    return f"{arm}: too few replays that count to tell"


def _warnings(limits: list[Limit], requests: int, per_arm: list[Capacity]) -> list[str]:
    warnings = []
    counted = int(requests * (1 - slo.WARM_UP))
    few = [x for x in limits if counted * x.allowed < 3]
    if few:
        warnings.append(
            f"{counted} requests of a replay count, of which {few[0].words} lets "
            f"{counted * few[0].allowed:.1f} be beyond it: more requests make the interval narrower"
        )
    for capacity in per_arm:
        void = [r for r in capacity.replays if r.outcome.trial is None]
        if void:
            rates = ", ".join(number(r.rate_per_s) for r in void)
            why = void[0].outcome.why
            warnings.append(f"{capacity.arm} at {rates} requests/s: void, not counted ({why})")
    return warnings


def _table(per_arm: list[Capacity], limits: list[Limit]) -> Table:
    rows = []
    for capacity in per_arm:
        for replay in sorted(capacity.replays, key=lambda r: r.rate_per_s):
            outcome = replay.outcome
            beyond = ["–"] * len(limits)
            if outcome.trial:
                beyond = [f"{n / outcome.trial.counted:.1%}" for n in outcome.trial.beyond]
            state = {None: "void", True: "kept", False: "missed"}[outcome.kept]
            cells = [x for pair in zip(map(seconds, outcome.values), beyond, strict=True)
                     for x in pair]  # fmt: skip
            rows.append([capacity.arm, number(replay.rate_per_s), *cells, state])
    columns = [text for x in limits for text in (x.what.words, f"beyond {seconds(x.most_s)}")]
    caption = "Every replay, without its warm-up. Void ones are shown and not counted."
    return Table("Replays", ["arm", "requests/s", *columns, "limits"], rows, caption)


def _draw(per_arm: list[Capacity], n: int, x: Limit, folder: Path) -> Figure:
    """The share of requests beyond one limit, against the rate."""
    what = x.what.words
    figure, ax = plt.subplots(figsize=SIZE, layout="constrained")
    for capacity in per_arm:
        color = COLOR[capacity.arm]
        trials = [r.outcome.trial for r in capacity.usable if r.outcome.trial]
        rates = np.array([t.rate_per_s for t in trials])
        shares = [t.beyond[n] / t.counted for t in trials]
        ax.plot(rates, shares, MARKER[capacity.arm], color=color, label=capacity.arm, markersize=5)
        found = capacity.found
        if found and found.limit == n and not found.is_open:
            along = np.geomspace(rates.min(), rates.max(), 200)
            ax.plot(along, found.share_beyond(along, x.allowed), "-", color=color, linewidth=1.5)
            ax.axvspan(found.low_per_s, found.high_per_s, color=color, alpha=0.15, linewidth=0)
    ax.axhline(x.allowed, color="black", linewidth=0.8)
    title = f"Requests beyond {what} ≤ {seconds(x.most_s)}"
    dress(ax, title, "planned requests / s (log scale)", "share of requests", log_x=True)
    name = f"{x.what.column.removesuffix('_s')}_{x.what.quantile}_by_rate.svg"
    about = Figure(
        name, title,
        "Each point is one replay. The black line is the share that the limit allows; where an "
        "arm's curve crosses it is its capacity, the band its 95 % interval.",
    )  # fmt: skip
    return save(figure, about, folder)
