"""`aot lint` without its command line: folders, logs, and which findings are left out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aot.configs.kernel.errors import UsageError
from aot.configs.kernel.files import replacing
from aot.configs.loading.pricing import price_of
from aot.scripts.prompts.compiling import tokenizer_of
from aot.workloads.lint import folder as lint_folder
from aot.workloads.lint import log as lint_log
from aot.workloads.lint import seen
from aot.workloads.lint import template as lint_template
from aot.workloads.lint.flaw import Flaw
from aot.workloads.prompts import folder as prompts
from aot.workloads.traces.in_time import CHARACTERS_PER_TOKEN

if TYPE_CHECKING:
    from aot.workloads.requests.tokens import ChatTokenizer

SAMPLE = 20
"""Requests of a log by whose texts a tokenizer is measured."""
BASELINE = "aot-lint-baseline/1"
LEVELS = ("note", "warning", "error")
_IGNORED = re.compile(r"\{#-?\s*aot: ignore\b\s*(?P<rules>[\w\s,-]*?)\s*-?#\}")


@dataclass(frozen=True, slots=True)
class Options:
    """What all paths of one call have in common."""

    tokenizer: ChatTokenizer | None = None
    block_tokens: int = 16
    minimum_tokens: int | None = None

    @staticmethod
    def of(
        model: str | None,
        block_tokens: int,
        minimum_tokens: int | None,
        arguments: Mapping[str, Any],
    ) -> Options:
        """With the tokenizer of a model folder or recipe, and arguments of its chat template."""
        tokenizer = tokenizer_of(model).with_arguments(arguments) if model else None
        return Options(tokenizer, block_tokens, minimum_tokens)


@dataclass(frozen=True, slots=True)
class Linted:
    """`totals`: of a log, as JSON; empty for a folder. Places of `flaws` begin at the root of the
    repository, or where it was called."""

    flaws: list[Flaw]
    totals: dict[str, Any]


def lint(path: Path, options: Options) -> Linted:
    """A prompt folder or a request log. Raises UsageError for what is neither."""
    return _folder(path, options) if path.is_dir() else _log(path, options)


def _folder(path: Path, options: Options) -> Linted:
    tokenizer = options.tokenizer

    def count(text: str) -> int:
        return tokenizer.count(text) if tokenizer else round(len(text) / CHARACTERS_PER_TOKEN)

    measure = lint_folder.Measure(
        count,
        options.block_tokens,
        options.minimum_tokens,
        tokenizer.render if tokenizer else None,
        tokenizer.tomorrow().render if tokenizer else None,
    )
    folder = prompts.read(path)
    flaws = [f for f in lint_folder.lint(folder, measure) if not _is_ignored(path, f)]
    return Linted([_placed(f, path) for f in flaws], {})


def _log(path: Path, options: Options) -> Linted:
    log, rows = seen.read(path)
    ratio = 1 / CHARACTERS_PER_TOKEN
    flaws: list[Flaw] = []
    if options.tokenizer:
        sample = "".join(text for r in log[:SAMPLE] for _, text in r.parts)
        ratio = options.tokenizer.count(sample) / max(1, len(sample))
        flaws += lint_template.lint(options.tokenizer.render, options.tokenizer.tomorrow().render)
    server = lint_log.Server(options.block_tokens, options.minimum_tokens or 0)
    report = lint_log.lint(log, from_root(path), ratio, server)
    totals = {
        "requests": report.requests,
        "tokens": report.tokens,
        "computed_tokens": report.computed_tokens,
        "ideal_tokens": report.ideal_tokens,
        "hit_ratio": report.hit_ratio,
        "served_hit_ratio": report.served_ratio,
        "bad_lines": rows.skipped,
        "first_bad_line": rows.first_skipped,
    }
    return Linted(flaws + report.flaws, totals)


def _is_ignored(folder: Path, flaw: Flaw) -> bool:
    """By a comment in its line, or in the one above: {# aot: ignore volatile-time #}; without a
    rule it is about all of them."""
    path = folder / flaw.file
    if flaw.line is None or not path.is_file():
        return False
    lines = prompts.text_of(path).split("\n")[max(0, flaw.line - 2) : flaw.line]
    found = [m["rules"].replace(",", " ").split() for m in _IGNORED.finditer("\n".join(lines))]
    return any(not rules or flaw.rule in rules for rules in found)


def _placed(flaw: Flaw, folder: Path) -> Flaw:
    path = folder / flaw.file
    return replace(flaw, file=from_root(path)) if path.exists() else flaw


def from_root(path: Path) -> str:
    """The path as code hosts name it: from the root of the repository that it is in; else as it
    was given."""
    whole = path.resolve()
    root = next((p for p in whole.parents if (p / ".git").exists()), None)
    here = Path.cwd().resolve()
    if root is not None and here.is_relative_to(root):
        return whole.relative_to(root).as_posix()
    return whole.relative_to(here).as_posix() if whole.is_relative_to(here) else path.as_posix()


def _print_of(flaw: Flaw) -> list[str]:
    """What stays the same of a finding when others come and go, and lines move."""
    return [flaw.rule, flaw.file, re.sub(r"\[\d+\]", "[]", flaw.field or "")]


def write_baseline(path: Path, flaws: Sequence[Flaw]) -> None:
    """The findings that are known: later calls with --baseline leave them out."""
    rows = sorted({tuple(_print_of(f)) for f in flaws})
    text = json.dumps({"format": BASELINE, "known": rows}, indent=2) + "\n"
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def unknown(path: Path, flaws: Sequence[Flaw]) -> list[Flaw]:
    """The findings that are not in a baseline. UsageError for a file that is none."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts["format"] != BASELINE:
            raise ValueError
        known = [list(row) for row in facts["known"]]
    except FileNotFoundError:
        raise UsageError(
            f"--baseline {path}: no such file; write it with --write-baseline {path}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"--baseline {path}: is no baseline of aot lint") from None
    return [f for f in flaws if _print_of(f) not in known]


def prices(provider: str, model: str | None) -> tuple[float, int]:
    """What a token costs more that is not found in the cache, and the smallest cached prefix."""
    table, _, paid = price_of(provider, model)
    # Behind an explicit marker a miss is written anew, at the price of writing.
    missed = paid.write if table.caching == "explicit" else paid.input
    return missed - paid.read, paid.minimum_tokens or table.minimum_tokens
