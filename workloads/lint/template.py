"""Lint a chat template by what it renders: plain turns, turns with tools, with thinking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aot.configs.dialects.dialect import Render
from aot.configs.kernel.errors import UsageError
from aot.workloads.lint.flaw import Flaw
from aot.workloads.requests.request import Message, Tools

TOOLS: Tools = (
    {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}},
)
PLACE = "chat template"
_TURNS: tuple[Message, ...] = (
    {"role": "system", "content": "S"},
    {"role": "user", "content": "A"},
    {"role": "assistant", "content": "B"},
    {"role": "user", "content": "C"},
    {"role": "assistant", "content": "D"},
    {"role": "user", "content": "E"},
)


def lint(render: Render, render_tomorrow: Render) -> Iterator[Flaw]:
    """Flaws of a chat template; `render_tomorrow` is the same a day later. What it refuses is not
    looked at."""
    dates = (_dated(render, render_tomorrow, tools) for tools in ((), TOOLS))
    yield from [f for f in dates if f][:1]
    yield from [f for f in (_plain(render, ()), _plain(render, TOOLS), _thinking(render)) if f][:1]


def _dated(render: Render, render_tomorrow: Render, tools: Tools) -> Flaw | None:
    today, tomorrow = (_rendered(r, _TURNS[:4], tools) for r in (render, render_tomorrow))
    if today is None or tomorrow is None or today == tomorrow:
        return None
    at = next(i for i, (a, b) in enumerate(zip(today, tomorrow, strict=False)) if a != b)
    where = " (with tools)" if tools else ""
    detail = f"it differs from day to day{where}: {today[max(0, at - 30) : at + 20]!r}"
    return Flaw("template-date", "warning", PLACE, None, None, detail, None)


def _plain(render: Render, tools: Tools) -> Flaw | None:
    """A turn later, what came before stands there as it stood."""
    if not _is_changed(render, _TURNS[:4], _TURNS, tools, "C"):
        return None
    words = ": it writes the tools where the last message is" if tools else ""
    detail = f"a later turn renders what came before it differently{words}"
    return Flaw("template-history", "warning", PLACE, None, None, detail, None)


def _thinking(render: Render) -> Flaw | None:
    """What the model thought in the turn before the last is left out of the history: while tools
    are called it stands there, and behind the next message it does not."""
    thought: Message = {
        "role": "assistant", "content": "<think>\nT\n</think>\n\nB", "reasoning_content": "T",
    }  # fmt: skip
    before = [_TURNS[0], _TURNS[1], thought]
    if not _is_changed(render, before, [*before, _TURNS[3]], (), "B"):
        return None
    detail = (
        "reasoning is dropped from the history once the user goes on: the answers of the turn "
        "before are computed again"
    )
    return Flaw("template-history", "warning", PLACE, None, None, detail, None)


def _is_changed(
    render: Render, first: Sequence[Message], later: Sequence[Message], tools: Tools, last: str
) -> bool:
    """Whether the text up to the last message of `first`, which says `last`, is another later."""
    old, new = (_rendered(render, turns, tools) for turns in (first, later))
    if old is None or new is None:
        return False
    return not new.startswith(old[: old.rfind(last) + 1])


def _rendered(render: Render, turns: Sequence[Message], tools: Tools) -> str | None:
    try:
        return render(list(turns), tools)
    except UsageError:
        return None
