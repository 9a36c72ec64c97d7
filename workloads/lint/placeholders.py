"""What other code fills into a static text, in the syntax of other template languages: Python's
format and %, shells, Go, Mustache and Handlebars, n8n, Dify."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from aot.workloads.lint import volatile

SINGLE = re.compile(
    r"(?<![{$\w])(?:\{(?P<a>[A-Za-z_]\w*)\}(?!\})|\$\{(?P<b>[A-Za-z_][\w.]*)\}|%\((?P<c>\w+)\)s"
    r"|<<?(?P<d>[A-Z][A-Z_]{2,})>>?|\[(?P<e>[A-Z][A-Z_]{3,})\]|\$(?P<f>[a-z_]\w*)\b)"
)
DOUBLE = re.compile(r"\{\{\{?(?P<inside>[^{}\n]+)\}?\}\}")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
DYNAMIC = re.compile(
    r"(?i)(?:chat_?)?history|context|documents?|chunks?|passages?|retrieved\w*|search_results?"
    r"|memor(?:y|ies)|question|query|input|user_input|conversation|messages"
    r"|cwd|working_dir(?:ectory)?|git_(?:branch|status)|open_(?:tabs|files)|file_tree"
    r"|(?:total|session)_cost|utc_offset"
)
"""Names of what differs from request to request by its nature."""


class Placeholder(NamedTuple):
    """`kind` as of volatile.class_of_name, or "dynamic"; None: who knows."""

    shown: str
    at: int
    kind: str | None


def single(text: str) -> Iterator[Placeholder]:
    """With one brace, a dollar, percent signs or brackets."""
    for match in SINGLE.finditer(DOUBLE.sub(lambda m: " " * len(m[0]), text)):
        name = next(v for v in match.groups() if v)
        kind = kind_of(name)
        if kind == "user" and match["d"] is not None:
            kind = None  # <CUSTOMER> stands for one in a rule
        yield Placeholder(match[0], match.start(), kind)


def double(text: str) -> Iterator[Placeholder]:
    """With two braces, where it is no Jinja."""
    for match in DOUBLE.finditer(text):
        names = _IDENTIFIER.findall(match["inside"])
        kinds = [k for name in names if (k := kind_of(name))]
        yield Placeholder(match[0], match.start(), kinds[0] if kinds else None)


def kind_of(name: str) -> str | None:
    """What the name of a placeholder says of its value."""
    return "dynamic" if DYNAMIC.fullmatch(name) else volatile.class_of_name(name)
