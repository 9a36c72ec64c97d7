"""A run directory → summary.json, report.html, report.md, figures/, requests.csv and
records.parquet.

Reads files only, so it can be run again at any time: on an interrupted run it reports what is
there and says what is not.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from aot.analysis.checks import steady
from aot.analysis.checks.finding import LEVELS, Finding
from aot.analysis.checks.validity import ANSWERED, judge
from aot.analysis.measures import metrics
from aot.analysis.measures.latency import metric_text
from aot.analysis.pages import advice, explorer, figures, headlines, time_axis
from aot.analysis.pages.figures import Figure
from aot.analysis.pages.formats import number, ratio_text, rounded_ratio, seconds
from aot.analysis.runs import record_store
from aot.analysis.runs.records import Keep, empty
from aot.analysis.runs.run import Run, ServerRun, load
from aot.analysis.summary import summarize
from aot.configs.kernel.files import replacing

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Part:
    """One server of a run with what is derived from it."""

    server: ServerRun
    numbers: dict[str, Any]
    """arms and comparison, as in summary.json."""
    findings: list[Finding]
    headlines: list[str]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run with everything derived from it. `void`: a finding says not to use the numbers."""

    run: Run
    frame: pd.DataFrame
    summary: dict[str, Any]
    parts: list[Part]

    @property
    def findings(self) -> list[Finding]:
        """Of all servers, worst first."""
        findings = [f for part in self.parts for f in part.findings]
        return sorted(findings, key=lambda f: LEVELS.index(f.level))

    @property
    def void(self) -> bool:
        return any(f.level == "void" for f in self.findings)

    @property
    def unanswered(self) -> bool:
        """Whether a planned request failed or left no record."""
        return any(f.level == "void" and f.check == ANSWERED for f in self.findings)

    @property
    def headline(self) -> str:
        return str(self.summary["headline"])


def evaluate(folder: Path, keep: Keep | None = None) -> Evaluation:
    """All numbers and verdicts of the run in `folder`; writes nothing. `keep` is given all records.

    Raises UsageError when it is no run directory.
    """
    run = load(folder, keep)
    records = [p.records for s in run.servers for p in s.phases if len(p.records)]
    frame = metrics.derive(pd.concat(records, ignore_index=True) if records else empty())
    frame["measured"] = True
    for server in run.servers:
        rows = frame["server"] == server.name
        frame.loc[rows, "measured"] = steady.measured(frame[rows], server, *server.skip)
    summary = summarize(run, frame)
    parts = [_part(server, frame, summary, alone=len(run.servers) == 1) for server in run.servers]
    evaluation = Evaluation(run, frame, summary, parts)
    summary["findings"] = [asdict(f) for f in evaluation.findings]
    summary["headlines"] = headlines.of_run(
        [(p.server.name, p.headlines) for p in parts], summary["between_servers"]
    )
    summary["headline"] = " ".join(summary["headlines"])
    return evaluation


def _part(server: ServerRun, frame: pd.DataFrame, summary: dict[str, Any], alone: bool) -> Part:
    numbers = summary["servers"][server.name]
    findings = judge(server, metrics.of_server(frame, server.name), numbers)
    if not alone:
        findings = [replace(f, detail=f"{server.name}: {f.detail}") for f in findings]
    return Part(server, numbers, findings, headlines.of_server(numbers, findings))


def write(folder: Path, exports: Sequence[str] = ()) -> Evaluation:
    """Rebuild everything that is derived from the facts in `folder`: see the module's first line.
    `exports`: formats of the figures besides SVG.

    Raises UsageError when it is no run directory.
    """
    with record_store.writing(folder / "records.parquet") as keep:
        evaluation = evaluate(folder, keep)
    if len(evaluation.frame):
        rows = metrics.requests(evaluation.frame)
        replaced(folder / "requests.csv", lambda p: csv.write_csv(pa.Table.from_pandas(rows), p))
    arms = {s.name: s.arms for s in evaluation.run.servers}
    drawn = figures.draw_all(evaluation.frame, arms, folder / "figures", exports)
    drawn += time_axis.draw_all(
        evaluation.run.servers, evaluation.frame, folder / "figures", exports
    )
    context = _context(evaluation, drawn)
    for name in ("report.html", "report.md"):
        text = environment(name).get_template(f"{name}.jinja2").render(context)
        replaced(folder / name, lambda p, t=text: p.write_text(t, encoding="utf-8"))
    data = json.dumps(evaluation.summary, indent=2) + "\n"
    replaced(folder / "summary.json", lambda p: p.write_text(data, encoding="utf-8"))
    return evaluation


LOSS_NAMES = (
    ("cached", "found in the cache"),
    ("first_touch", "static prefixes, the first time"),
    ("dynamic", "new in each request"),
    ("salts", "known under another salt only"),
    ("rounding", "behind the last full block"),
    ("sparse", "not kept by this kind of cache"),
    ("concurrency", "sent while the same beginning was being prefilled"),
    ("eviction", "evicted, not kept by the engine, or on another replica"),
)


def _context(evaluation: Evaluation, drawn: list[Figure]) -> dict[str, Any]:
    run, shown, parts = evaluation.run, explorer.points(evaluation.frame), evaluation.parts
    machine = run.manifest["machine"]
    return {
        "run": run,
        "manifest": run.manifest,
        "parts": evaluation.parts,
        "summary": evaluation.summary,
        "findings": evaluation.findings,
        "voided": [f for f in evaluation.findings if f.level == "void"],
        "warnings": [f for f in evaluation.findings if f.level == "warning"],
        "figures": drawn,
        "images": {f.file: embedded(run.folder / "figures" / f.file) for f in drawn},
        "headlines": evaluation.summary["headlines"],
        "next_steps": _each(parts, lambda p: advice.next_steps(p.numbers, p.findings)),
        "not_to_conclude": _each(
            parts, lambda p: advice.not_to_conclude(p.numbers, machine, p.server.remote)
        ),
        "words": advice.WORDS,
        "explorer": shown,
        "explorer_json": explorer.as_script(shown),
        "slowest": explorer.slowest(evaluation.frame),
        "loss_names": LOSS_NAMES,
    }


def _each(parts: list[Part], lines: Callable[[Part], Iterable[str]]) -> list[str]:
    """What is said of every server, once."""
    return list(dict.fromkeys(line for part in parts for line in lines(part)))


def environment(name: str) -> jinja2.Environment:
    """Templates for a file of this name: HTML is escaped."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.filters.update(
        seconds=seconds,
        ratio=ratio_text,
        times=rounded_ratio,
        number=number,
        yaml=_yaml,
        metric=metric_text,
    )
    return env


def _yaml(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def embedded(path: Path) -> str:
    """An SVG file as a URL that needs no network."""
    return "data:image/svg+xml;base64," + base64.b64encode(path.read_bytes()).decode()


def replaced(path: Path, writer: Any) -> None:
    """Through a temporary file, so that a reader never meets half a report."""
    with replacing(path) as partial:
        writer(partial)
