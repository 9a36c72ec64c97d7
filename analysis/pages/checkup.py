"""The page of `aot check`: the answer, where the tokens go, and what a cache must hold."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parents[1] / "templates"
Curve = Sequence[tuple[int, float]]
"""(capacity in tokens, hit ratio), ascending."""


def page(
    facts: Mapping[str, Any],
    *,
    working: Sequence[str],
    broken: Sequence[str],
    shares: Sequence[tuple[str, float, str]],
    curve: Curve,
) -> str:
    """HTML of one answer: `facts` as `aot check --json` has them, its lines in words, and the curve
    of the log, in tokens."""
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return env.get_template("checkup.html.jinja2").render(
        facts=facts, working=working, broken=broken, shares=shares,
        figure=Markup(svg(curve, facts["capacity_tokens"])) if curve else "",
    )  # fmt: skip


def svg(curve: Curve, capacity_tokens: int | None) -> str:
    """Hit ratio against the capacity of the cache, that of the server marked."""
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    ax = figure.subplots()
    capacities, ratios = zip(*curve, strict=True)
    ax.step(capacities, ratios, where="post", color="#0072B2", label="of the prompt tokens")
    ax.axhline(ratios[-1], color="black", linestyle=":", label="a cache without an end")
    if capacity_tokens:
        ax.axvline(capacity_tokens, color="#D55E00", linestyle="--", label="this server's cache")
    ax.set(xscale="log", ylim=(0, 1), xlabel="capacity, tokens (log scale)", ylabel="hit ratio")
    ax.grid(visible=True, alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
