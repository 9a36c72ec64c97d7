"""Lint one static text of a prompt folder, whatever it says: its form, and what is said twice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aot.workloads.lint import volatile
from aot.workloads.lint.flaw import MIN_DUPLICATE_WORDS, Flaw, Level

Count = Callable[[str], int]
"""Tokens of a text."""

_RANDOM_ORDER = re.compile(
    r"(?im)^\W*(examples?|shots?|documents?|passages?|context|sources?)\b[^\n.]{0,30}"
    r"(?:random(?:ly|i[sz]ed)?[ -](?:order|ordered|sorted)|shuffled)"
)
STAMP_CHARACTERS = 400
"""Where in a document an export writes when it was made."""
_STAMPED = re.compile(
    r"(?im)^\W{0,4}(?:(?:generated|exported|rendered|crawled|fetched|export date)(?: at| on)?"
    rf"\s*:?\s*(?:{volatile.DATE})[T ,]+(?:at )?\d{{1,2}}:\d{{2}}"
    rf"|(?P<id>export|build|job|run|request|crawl)[ _-]?id\s*[:=]\s*\S*\d\S*)"
)


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A static file, with the static tokens behind it."""

    file: str
    kind: str
    text: str
    behind_tokens: int


def _cost(text: StaticFile, at: int, count: Count) -> float:
    return count(text.text[at:]) + text.behind_tokens


def flaw_at(rule: str, level: Level, text: StaticFile, at: int, detail: str, count: Count) -> Flaw:
    line = text.text.count("\n", 0, at) + 1
    return Flaw(rule, level, text.file, line, None, detail, _cost(text, at, count))


def encoding(text: StaticFile) -> Iterator[Flaw]:
    where = text.text
    problems = []
    if where.startswith("\ufeff"):
        problems.append("begins with a byte-order mark")
    if unicodedata.normalize("NFC", where) != where:
        problems.append("is not in Unicode form NFC")
    if "\r\n" in where and re.search(r"(?<!\r)\n", where):
        problems.append("mixes CRLF and LF line ends")
    if re.search(r"(?m)[^\S\n\r]{3,}\r?$|\t\r?$", where):
        problems.append("has white space at the end of lines")
    if re.search("[\u200b\u2060\u00ad]", where):
        problems.append("has invisible characters (zero-width space, soft hyphen)")
    if problems:
        yield Flaw("whitespace", "warning", text.file, 1, None, "; ".join(problems), None)


def mixed_line_ends(texts: Sequence[StaticFile]) -> Iterator[Flaw]:
    crlf = [t.file for t in texts if "\r\n" in t.text]
    lf = [t.file for t in texts if "\n" in t.text and "\r\n" not in t.text]
    if crlf and lf:
        detail = f"{', '.join(crlf)} with CRLF line ends, {', '.join(lf)} with LF"
        yield Flaw("whitespace", "warning", crlf[0], 1, None, detail, None)


def announced(text: StaticFile, count: Count) -> Iterator[Flaw]:
    """What says of itself that it is shuffled, or was made anew."""
    if text.kind == "tools":
        return
    for match in _RANDOM_ORDER.finditer(text.text):
        rule = (
            "example-order"
            if match[1].lower().startswith(("example", "shot"))
            else "document-order"
        )
        words = f"'{' '.join(match[0].split())}': the order changes each time"
        yield flaw_at(rule, "warning", text, match.start(), words, count)
    if text.kind == "document":
        for match in _STAMPED.finditer(text.text[:STAMP_CHARACTERS]):
            kind = "volatile-id" if match["id"] else "volatile-time"
            words = f"'{' '.join(match[0].split())[:70]}': written anew with every export"
            yield flaw_at(kind, "warning", text, match.start(), words, count)


def duplicates(texts: Sequence[StaticFile], count: Count) -> Iterator[Flaw]:
    seen: dict[str, tuple[str, int]] = {}
    for text in texts:
        if text.kind == "tools":
            continue
        at = 0
        for paragraph in re.split(r"\n\s*\n", text.text):
            words = paragraph.split()
            line = text.text.count("\n", 0, max(text.text.find(paragraph, at), 0)) + 1
            at = max(text.text.find(paragraph, at), 0) + len(paragraph)
            if len(words) < MIN_DUPLICATE_WORDS:
                continue
            key = " ".join(words).lower()
            if key in seen:
                file, where = seen[key]
                detail = f"the same paragraph of {len(words)} words as in {file}, line {where}"
                tokens = count(paragraph)
                yield Flaw("duplicate-text", "warning", text.file, line, None, detail, tokens)
            seen.setdefault(key, (text.file, line))
