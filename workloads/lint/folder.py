"""Lint a prompt folder: what in it will break prefix reuse, before anything is sent.

A folder's files are static as they stand, so a literal date is a flaw only where its label says
that something fills it in anew; a variable is one where its name says so or nothing gives it a
value. Costs are the static tokens behind the place: what a change there makes every request pay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jinja2
import jinja2.nodes

from aot.configs.dialects.dialect import Render
from aot.configs.kernel.errors import UsageError
from aot.workloads.lint import placeholders, volatile
from aot.workloads.lint import template as lint_template
from aot.workloads.lint.flaw import Flaw
from aot.workloads.lint.placeholders import Placeholder
from aot.workloads.lint.text import (
    Count,
    StaticFile,
    announced,
    duplicates,
    encoding,
    flaw_at,
    mixed_line_ends,
)
from aot.workloads.prompts import folder as prompts
from aot.workloads.prompts.folder import JINJA, PromptFolder

MIN_STATIC_BEHIND_WORDS = 25
"""Literal text behind a template's first variable that is worth moving."""
WORTH_IT_TOKENS = 500

_RULE_OF: dict[str, str] = {
    "time": "volatile-time",
    "id": "volatile-id",
    "random": "volatile-random",
    "counter": "volatile-counter",
    "user": "user-in-prefix",
}
_SHUFFLING = re.compile(r"shuffle|random|sample|rand\b|choice")


@dataclass(frozen=True, slots=True)
class Measure:
    """`count` counts tokens, exactly or by estimate; `render` is the model's chat template."""

    count: Count
    block_tokens: int
    minimum_tokens: int | None = None
    """A provider's smallest prefix that is cached at all."""
    render: Render | None = None
    render_tomorrow: Render | None = None


def lint(folder: PromptFolder, measure: Measure) -> list[Flaw]:
    """All flaws of a folder, in the order of the prompt."""
    texts = list(_texts(folder, measure.count))
    total = sum(measure.count(t.text) for t in texts)
    flaws: list[Flaw] = []
    for text in texts:
        flaws += _variables(folder, text, measure.count)
        flaws += _literals(text, measure.count)
        flaws += encoding(text)
        flaws += announced(text, measure.count)
    flaws += mixed_line_ends(texts)
    for name, path in folder.templates.items():
        flaws += _template(folder, name, path, measure.count)
    flaws += duplicates(texts, measure.count)
    flaws += _length(folder, total, measure)
    if measure.render and measure.render_tomorrow:
        flaws += lint_template.lint(measure.render, measure.render_tomorrow)
    return flaws


def _texts(folder: PromptFolder, count: Count) -> Iterator[StaticFile]:
    raw: list[tuple[str, str, str]] = [
        (str(p.relative_to(folder.folder)), kind, prompts.text_of(p)) for kind, p in folder.files
    ]
    if folder.tools:
        path = folder.folder / "tools.json"
        raw.append(("tools.json", "tools", prompts.text_of(path)))
    sizes = [count(text) for _, _, text in raw]
    for index, (file, kind, text) in enumerate(raw):
        yield StaticFile(file, kind, text, sum(sizes[index + 1 :]))


def _variables(folder: PromptFolder, text: StaticFile, count: Count) -> Iterator[Flaw]:
    """Variables, calls and filters of a static template; placeholders that other code fills in."""
    if text.kind in ("system", "examples"):
        yield from _jinja(folder, text, count)
    if text.kind != "system":
        return
    for found in placeholders.single(volatile.without_examples(text.text)):
        if found.kind is not None:
            yield _filled_in(text, found, count)


def _filled_in(text: StaticFile, found: Placeholder, count: Count) -> Flaw:
    rule = "dynamic-first" if found.kind == "dynamic" else _RULE_OF.get(found.kind or "")
    if rule is None:
        detail = f"placeholder {found.shown}: shared only among prompts with one value of it"
        return flaw_at("unfilled-variable", "warning", text, found.at, detail, count)
    detail = f"placeholder {found.shown} is filled in for each request"
    return flaw_at(rule, "error", text, found.at, detail, count)


def _jinja(folder: PromptFolder, text: StaticFile, count: Count) -> Iterator[Flaw]:
    plain = volatile.without_examples(text.text)
    try:
        tree = prompts.parsed(folder.folder / text.file)
    except UsageError:
        foreign = list(placeholders.double(plain))
        if not foreign:
            raise
        yield from (_filled_in(text, found, count) for found in foreign)
        return
    yield from _calls(tree, text, count)
    yield from _names(tree, folder, text, plain, count)


def _calls(tree: jinja2.nodes.Template, text: StaticFile, count: Count) -> Iterator[Flaw]:
    for node in tree.find_all((jinja2.nodes.Filter, jinja2.nodes.Call)):
        name = node.name if isinstance(node, jinja2.nodes.Filter) else _called(node)
        at = _offset(text.text, node.lineno)
        if _SHUFFLING.search(name):
            rule = "example-order" if text.kind == "examples" else "volatile-random"
            yield flaw_at(
                rule, "error", text, at, f"'{name}' gives another result each time", count
            )
        elif isinstance(node, jinja2.nodes.Call) and (kind := volatile.class_of_name(name)):
            yield flaw_at(_RULE_OF[kind], "error", text, at, f"{name}() changes", count)


def _names(
    tree: jinja2.nodes.Template, folder: PromptFolder, text: StaticFile, plain: str, count: Count
) -> Iterator[Flaw]:
    """Variables, each where it stands first; not those in code and examples."""
    seen: set[str] = set()
    for node in tree.find_all(jinja2.nodes.Name):
        if node.name in seen or node.ctx != "load" or node.name not in _undeclared(text.text):
            continue
        seen.add(node.name)
        at = max(text.text.find(node.name, _offset(text.text, node.lineno)), 0)
        if plain[at : at + 1] == " ":
            continue
        yield from _named(node.name, at, folder, text, count)


def _named(
    name: str, at: int, folder: PromptFolder, text: StaticFile, count: Count
) -> Iterator[Flaw]:
    kind = placeholders.kind_of(name)
    if name in folder.variables and kind == "dynamic":
        return  # it has one value
    if kind is not None:
        rule = "dynamic-first" if kind == "dynamic" else _RULE_OF[kind]
        detail = f"variable {{{{ {name} }}}} changes, and all static text behind it is paid"
        yield flaw_at(rule, "error", text, at, detail, count)
    elif name not in folder.variables:
        detail = f"variable {{{{ {name} }}}}: shared only among prompts with one value of it"
        yield flaw_at("unfilled-variable", "warning", text, at, detail, count)


def _undeclared(text: str) -> set[str]:
    """Names that are read and never set (jinja2.meta would stop at a filter it does not know)."""
    names = list(JINJA.parse(text).find_all(jinja2.nodes.Name))
    return {n.name for n in names if n.ctx == "load"} - {n.name for n in names if n.ctx != "load"}


def _called(node: jinja2.nodes.Expr) -> str:
    inner = getattr(node, "node", node)
    return getattr(inner, "name", "") or getattr(inner, "attr", "")


def _offset(text: str, line: int) -> int:
    return sum(len(x) + 1 for x in text.split("\n")[: line - 1])


def _literals(text: StaticFile, count: Count) -> Iterator[Flaw]:
    """Values whose label says that they are filled in anew."""
    # Documents and examples are data: they may well show times, ids and names.
    if text.kind in ("document", "examples"):
        return
    of_kind = volatile.without_samples if text.kind == "tools" else volatile.without_examples
    plain = of_kind(text.text)
    taken: list[tuple[int, int]] = []
    for pattern in (*volatile.LABELLED, *volatile.ALONE):
        for match in pattern.regex.finditer(plain):
            span = match.span("value")
            if any(a < span[1] and span[0] < b for a, b in taken):
                continue
            taken.append(span)
            words = " ".join(match[0].split())[:70]
            yield flaw_at(
                _RULE_OF[pattern.kind], "error", text, match.start("value"),
                f"'{words}' looks filled in for each request", count,
            )  # fmt: skip
    if text.kind == "system":
        for match in volatile.USER_LINE.finditer(plain):
            if volatile.NAME_ALONE.match(match[0]):
                continue  # who the prompt is written for, or a turn of an example
            words = " ".join(match[0].split())[:70]
            yield flaw_at(
                "user-in-prefix",
                "error",
                text,
                match.start(),
                f"'{words}' is about one user",
                count,
            )


def _template(folder: PromptFolder, name: str, path: Path, count: Count) -> Iterator[Flaw]:
    """Literal text behind the first variable is static, and paid by every request."""
    source = prompts.text_of(path)
    prompts.parsed(path)  # names file and line of a syntax error
    file = str(path.relative_to(folder.folder))
    first = re.search(r"\{\{.*?\}\}|\{%-?\s*(?:for|if)\b.*?%\}", source, re.S)
    if first is None:
        return
    behind = re.sub(r"\{[{%#].*?[}%#]\}", " ", source[first.end() :], flags=re.S)
    if len(behind.split()) >= MIN_STATIC_BEHIND_WORDS:
        tokens = count(" ".join(behind.split()))
        line = source.count("\n", 0, first.start()) + 1
        detail = (
            f"{tokens} tokens that are always the same stand behind {first[0].strip()[:40]}, "
            "so no request can share them"
        )
        yield Flaw("dynamic-first", "error", file, line, name, detail, tokens)
    for match in re.finditer(
        r"\|\s*(shuffle|random)|(?:history|messages|turns)\s*\[\s*-\d+\s*:", source
    ):
        line = source.count("\n", 0, match.start()) + 1
        rule = "document-order" if match[1] else "history-truncated"
        words = (
            "the order changes each time" if match[1] else "the oldest turn is dropped each turn"
        )
        yield Flaw(rule, "error", file, line, name, f"'{match[0].strip()}': {words}", None)


def _length(folder: PromptFolder, total: int, measure: Measure) -> Iterator[Flaw]:
    file = str(folder.files[0][1].relative_to(folder.folder))
    least = measure.minimum_tokens
    if total <= measure.block_tokens:
        words = f"{total} static tokens: not one block of {measure.block_tokens} is full"
        yield Flaw("short-prefix", "warning", file, None, None, words, total)
    elif least is not None and total < least:
        words = f"{total} static tokens: the provider caches from {least} on"
        yield Flaw("short-prefix", "warning", file, None, None, words, total)
    elif total < WORTH_IT_TOKENS:
        words = f"{total} static tokens: below {WORTH_IT_TOKENS} the gain is small"
        yield Flaw("short-prefix", "note", file, None, None, words, total)
