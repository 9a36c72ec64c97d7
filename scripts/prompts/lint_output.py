"""Findings of lint for people (text), programs (JSON), code hosts (SARIF) and GitHub's log."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from aot.workloads.lint.flaw import RULES, Flaw

SARIF_LEVEL = {"error": "error", "warning": "warning", "note": "note"}
GITHUB_LEVEL = {"error": "error", "warning": "warning", "note": "notice"}


def as_text(flaws: Sequence[Flaw], price_per_mtok: float | None) -> str:
    """One paragraph per finding."""
    return "\n".join(_paragraph(f, price_per_mtok) for f in flaws)


def _paragraph(flaw: Flaw, price_per_mtok: float | None) -> str:
    place = flaw.file + (f":{flaw.line}" if flaw.line else "")
    place += f" {flaw.field}" if flaw.field else ""
    cost = ""
    if flaw.tokens_per_request is not None:
        least = "up to " if flaw.bound else ""
        money = _money(flaw, price_per_mtok)
        cost = f" [{least}{flaw.tokens_per_request:,.0f} tokens per request{money}]"
    return f"{place}: {flaw.level}: {flaw.rule}: {flaw.detail}{cost}\n    fix: {flaw.fix}"


def money_per_1000(flaw: Flaw, price_per_mtok: float | None) -> float | None:
    """What a flaw costs in 1,000 requests, at a price per million prompt tokens."""
    if price_per_mtok is None or flaw.tokens_per_request is None:
        return None
    return flaw.tokens_per_request * 1000 / 1e6 * price_per_mtok


def _money(flaw: Flaw, price_per_mtok: float | None) -> str:
    money = money_per_1000(flaw, price_per_mtok)
    return "" if money is None else f", {money:.2f} per 1,000 requests"


def as_json(
    flaws: Sequence[Flaw], price_per_mtok: float | None, totals: dict[str, dict[str, Any]]
) -> str:
    """An object with the findings and the totals of every log; of one alone at the top as well."""
    extra: dict[str, Any] = next(iter(totals.values())) if len(totals) == 1 else {}
    rows = [f.as_json() | {"money_per_1000": money_per_1000(f, price_per_mtok)} for f in flaws]
    return json.dumps({"format": "aot-lint/1", **extra, "logs": totals, "findings": rows}, indent=2)


def as_sarif(flaws: Sequence[Flaw]) -> str:
    """SARIF 2.1.0."""
    rules = [
        {"id": r, "shortDescription": {"text": words}, "help": {"text": fix}}
        for r, (words, fix) in RULES.items()
    ]
    results = []
    for f in flaws:
        location: dict[str, Any] = {"artifactLocation": {"uri": quote(f.file)}}
        if f.line:
            location["region"] = {"startLine": f.line}
        results.append(
            {
                "ruleId": f.rule,
                "level": SARIF_LEVEL[f.level],
                "message": {"text": f"{f.detail}. Fix: {f.fix}"},
                "locations": [{"physicalLocation": location}],
                "properties": {"tokens_per_request": f.tokens_per_request},
            }
        )
    driver = {"name": "aot lint", "rules": rules}
    return json.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{"tool": {"driver": driver}, "results": results}],
        },
        indent=2,
    )


def as_github(flaws: Sequence[Flaw]) -> str:
    """Annotations of a GitHub workflow."""
    lines = []
    for f in flaws:
        where = f"file={_property(f.file)}" + (f",line={f.line}" if f.line else "")
        words = _data(f"{f.detail}. Fix: {f.fix}")
        lines.append(f"::{GITHUB_LEVEL[f.level]} {where},title={_property(f.rule)}::{words}")
    return "\n".join(lines)


def _data(text: str) -> str:
    """As workflow commands escape what they say."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """And the values of their properties."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
