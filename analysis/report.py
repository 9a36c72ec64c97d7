"""A run directory → summary.json, report.html, report.md, figures/ and records.parquet.

Reads files only, so it can be run again at any time: on an interrupted run it reports what is
there and says what is not.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from analysis import figures, metrics
from analysis.figures import Figure
from analysis.runs import Run, load
from analysis.summary import summarize
from analysis.validity import ANSWERED, Finding, judge

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A run with everything derived from it. `void`: a finding says not to use the numbers."""

    run: Run
    frame: pd.DataFrame
    summary: dict[str, Any]
    findings: list[Finding]

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


def evaluate(folder: Path) -> Evaluation:
    """All numbers and verdicts of the run in `folder`; writes nothing.

    Raises UsageError when it is no run directory.
    """
    run = load(folder)
    frame = metrics.derive(run.records)
    summary = summarize(run, frame)
    findings = judge(run, frame, summary)
    summary["findings"] = [asdict(f) for f in findings]
    summary["headline"] = headline(summary, findings)
    return Evaluation(run, frame, summary, findings)


def write(folder: Path) -> Evaluation:
    """Rebuild everything that is derived from the facts in `folder`: see the module's first line.

    Raises UsageError when it is no run directory.
    """
    found = evaluate(folder)
    if len(found.frame):
        _write(folder / "records.parquet", lambda p: found.run.records.to_parquet(p, index=False))
    drawn = figures.draw_all(found.frame, found.run.arms, folder / "figures")
    context = _context(found, drawn)
    for name in ("report.html", "report.md"):
        text = _environment(name).get_template(f"{name}.jinja2").render(context)
        _write(folder / name, lambda p, t=text: p.write_text(t, encoding="utf-8"))
    data = json.dumps(found.summary, indent=2) + "\n"
    _write(folder / "summary.json", lambda p: p.write_text(data, encoding="utf-8"))
    return found


def headline(summary: dict[str, Any], findings: list[Finding]) -> str:
    """One sentence with the measured ratio, or why there is none."""
    compared, arms = summary["comparison"], summary["arms"]
    ratio, interval = compared["ttft_p50_speedup"], compared["ttft_p50_speedup_ci95"]
    if any(f.level == "void" for f in findings):
        return "This run is void: at least one check below says that its numbers must not be used."
    if ratio is None:
        have = ", ".join(arms) or "none"
        return f"No comparison: it needs answered requests in jit and aot (arms with data: {have})."
    # The medians of the paired requests, so that the sentence agrees with itself.
    before, after = (compared["paired_ttft_p50_s"][a] for a in ("jit", "aot"))
    sure = (
        f" (95 % interval {interval[0]:.1f}–{interval[1]:.1f})"
        if interval
        else " (too few pairs for an interval)"
    )
    return (
        f"With the static prompts compiled ahead of time, the median time to first token is "
        f"{ratio:.1f} times lower{sure}: {seconds(before)} in jit, {seconds(after)} in aot."
        if ratio >= 1
        else f"With the static prompts compiled ahead of time, the median time to first token is "
        f"not lower: jit ÷ aot is {ratio:.2f}{sure}, {seconds(before)} in jit, "
        f"{seconds(after)} in aot."
    )


def _context(found: Evaluation, drawn: list[Figure]) -> dict[str, Any]:
    run = found.run
    return {
        "run": run,
        "manifest": run.manifest,
        "engine_version": _engine_version(run.manifest),
        "summary": found.summary,
        "findings": found.findings,
        "voided": [f for f in found.findings if f.level == "void"],
        "warnings": [f for f in found.findings if f.level == "warning"],
        "figures": drawn,
        "images": {f.file: _embedded(run.folder / "figures" / f.file) for f in drawn},
        "headline": found.headline,
        "facts": {p.name: p.facts for p in run.phases if p.facts},
        "warmed": {p.name: p.warmed for p in run.phases if p.warmed},
        "commands": {p.name: p.command for p in run.phases if p.command},
    }


def _engine_version(manifest: dict[str, Any]) -> str:
    """The version of the engine's package, which a recipe may install under a longer name."""
    engine = manifest["engine"] or "-"
    found = [v for k, v in manifest["versions"].items() if k.startswith(engine)]
    return found[0] if found else ""


def _environment(name: str) -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=name.endswith(".html"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    env.filters.update(seconds=seconds, ratio=ratio_text, number=number, yaml=_yaml)
    return env


def seconds(value: float | None) -> str:
    """A duration for readers: ms below one second."""
    if value is None or pd.isna(value):
        return "not reported"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def ratio_text(value: float | None) -> str:
    return "not reported" if value is None else f"{value:.4f}"


def number(value: float | None) -> str:
    if value is None:
        return "not reported"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _yaml(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _write(path: Path, writer: Any) -> None:
    """Through a temporary file, so that a reader never meets half a report."""
    partial = path.with_name(f".{path.name}.partial")
    writer(partial)
    partial.replace(path)
