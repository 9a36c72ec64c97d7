"""Lint a model's chat template, by what it renders."""

from __future__ import annotations

from collections.abc import Iterator

from aot.configs.dialects.dialect import Render
from aot.workloads.lint.flaw import Flaw
from aot.workloads.requests.request import Message


def lint(render: Render, render_tomorrow: Render) -> Iterator[Flaw]:
    """Flaws of a chat template; `render_tomorrow` is the same a day later."""
    turn: list[Message] = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
    ]
    today, tomorrow = render(turn, ()), render_tomorrow(turn, ())
    if today != tomorrow:
        at = next(i for i, (a, b) in enumerate(zip(today, tomorrow, strict=False)) if a != b)
        detail = f"it differs from day to day: {today[max(0, at - 30) : at + 20]!r}"
        yield Flaw("template-date", "warning", "chat template", None, None, detail, None)
    longer = render(
        [*turn, {"role": "assistant", "content": "D"}, {"role": "user", "content": "E"}], ()
    )
    kept = today[: today.rfind("C") + 1]
    if not longer.startswith(kept):
        detail = "a later turn renders what came before it differently"
        yield Flaw("template-history", "warning", "chat template", None, None, detail, None)
