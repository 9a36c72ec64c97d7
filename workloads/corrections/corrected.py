"""A log as it would be without its flaws: bodies, each correction kept that spares something."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.workloads.corrections import logged
from aot.workloads.corrections.rules import CORRECTIONS
from aot.workloads.lint import seen
from aot.workloads.lint.flaw import both_forms
from aot.workloads.lint.prefix_tree import computed_characters
from aot.workloads.logs import bodies
from aot.workloads.logs.file import Rows


@dataclass(frozen=True, slots=True)
class Corrected:
    """`applied`: rules whose correction spares something. `changed`: requests that are otherwise.
    `before` and `after`: the share of the log that an unbounded cache does not find."""

    applied: tuple[str, ...]
    changed: int
    before: float
    after: float


def write(path: Path, rules: Iterable[str], out: Path) -> Corrected:
    """The log at `path` with the flaws of these rules mended, as a log of bodies at `out`.

    Raises UsageError where that is the log itself, or has no request.
    """
    if out.exists() and out.samefile(path):
        raise UsageError(f"--fix {out}: is the log itself; give another file")
    found = [(line, one) for line, _, one in bodies.each(Rows(path, skip_bad=True))]
    log = [logged.of_body(one, line) for line, one in found]
    wanted = both_forms(rules)
    best = _computed(found, log)
    first, applied = best, []
    corrected: Sequence[logged.Logged] = log
    for rule, correct in CORRECTIONS.items():
        if rule not in wanted:
            continue
        tried = correct(corrected)
        computed = _computed(found, tried)
        if computed < best:
            corrected, best = tried, computed
            applied.append(rule)
    total = sum(r.characters for r in _seen(found, log))
    with replacing(out) as partial, partial.open("w", encoding="utf-8") as file:
        for (_, one), request in zip(found, corrected, strict=True):
            file.write(json.dumps(_row(one, request), ensure_ascii=False) + "\n")
    changed = sum(a != b for a, b in zip(log, corrected, strict=True))
    return Corrected(tuple(applied), changed, first / max(1, total), best / max(1, total))


def _seen(
    found: Sequence[tuple[int, bodies.Logged]], log: Sequence[logged.Logged]
) -> list[seen.Seen]:
    pairs = zip(found, log, strict=True)
    return [seen.of(_with(one, request), line, {}) for (line, one), request in pairs]


def _with(one: bodies.Logged, request: logged.Logged) -> bodies.Logged:
    body = logged.to_body(request, one.endpoint, one.body)
    return bodies.Logged(one.endpoint, body, session=one.session)


def _computed(found: Sequence[tuple[int, bodies.Logged]], log: Sequence[logged.Logged]) -> int:
    return computed_characters(_seen(found, log))


def _row(one: bodies.Logged, request: logged.Logged) -> dict[str, Any]:
    """As `aot capture` writes them."""
    known = {"at_s": one.at_s, "duration_s": one.duration_s, "session_id": one.session}
    body = logged.to_body(request, one.endpoint, one.body)
    return {**{k: v for k, v in known.items() if v is not None}, "endpoint": one.endpoint,
            "body": body}  # fmt: skip
