"""Text that is different every time: what it looks like, and how to blank it.

Two uses. In a prompt folder a literal date is static and harmless unless its label says that it is
filled in anew ("Current time: ..."). In a request log every such place can be blanked, to measure
what it costs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Class = Literal["time", "id", "user", "random", "counter"]

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = r"(?:mon|tue|wed|thu|fri|sat|sun)(?:s|nes|rs|ur)?(?:day)?"
DATE = (
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)?(?:Z"
    r"|[ ]?[+-]\d{2}:?\d{2})?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
    rf"|(?:{_DAY}\.?,? )?\d{{1,2}}(?:st|nd|rd|th)?,? (?:of )?{_MONTH},? \d{{4}}"
    rf"|(?:{_DAY}\.?,? )?{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?,? \d{{4}}"
    r"|(?:mon|tues|wednes|thurs|fri|satur|sun)day"
)
CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[ap]\.?m\.?)?(?: ?(?:UTC|GMT|[A-Z]{3,4}))?"
EPOCH = r"\b1[5-9]\d{8}(?:\d{3}|\.\d+)?\b"
UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
TOKEN = r"(?=[A-Za-z0-9_+/=.-]*\d)[A-Za-z0-9][A-Za-z0-9_+/=.-]{5,}"
EMAIL = r"[\w.+-]+@[\w-]+\.[\w.-]+"

_TIME_LABEL = (
    r"(?:current|present|system|server|today'?s?)[ _-]?(?:date(?: ?(?:and|&|/)? ?time)?"
    r"|time(?:stamp)?|day|datetime)|(?:current )?local (?:date|time)(?: is| ?:| ?=)"
    r"|today is|it is now"
    r"|it is currently|the (?:time|date) is|(?:the )?time is now|right now it is|timestamp"
    r"|(?:generated|rendered|fetched|refreshed|requested) (?:at|on)|request time"
    r"|as of (?:now|today)|(?:(?<=\n)|(?<=\A))(?:date|time|now|today|datetime"
    r"|date and time)(?=\s*[:=])"
)
_ID_LABEL = (
    r"(?:request|session|trace|span|correlation|conversation|run|invocation|message|msg|transaction"
    r"|thread|chat|call|execution|task|job|instance|worker|pod|host|build|deployment|x-request|req)"
    r"(?:[ _-]?(?:id|identifier|uuid|guid|token|key|ref(?:erence)?))"
    r"|(?:session|trace|request|correlation|conversation|transaction|run|guid|uuid)(?= ?[:=#])"
)
_COUNTER_LABEL = (
    r"(?:request|message|conversation|visit|visitor|turn|attempt|iteration|call|query|sequence|seq)"
    r"[ _-]?(?:number|count(?:er)?|no\.?|#|nr\.?)|counter|(?:request|conversation|visitor|call) #"
)
_RANDOM_LABEL = (
    r"(?:cache[ _-]?bust(?:er)?|nonce|salt|random(?: (?:seed|token|string|value))?"
    r"|seed|signature|etag"
    r"|cch|billing[ _-]?header|csrf)"
)
_DRAWN = r"(?:\d{4,}|(?=[\w+/=.-]*(?:[A-Za-z]\d+[A-Za-z]|\d[A-Za-z]+\d))[\w+/=.-]{4,})"
"""Digits alone, or among letters, as nobody writes them by hand."""
_SEP = r"[\"']?\s*(?:[:=#]|is)?\s*[\"'(\[]?\s*"
_HARD_SEP = r"[\"']?\s*(?:[:=#]|is)\s*[\"'(\[]?\s*"


@dataclass(frozen=True, slots=True)
class Pattern:
    """Group `value` of `regex` is what changes."""

    kind: Class
    regex: re.Pattern[str]


def _labelled(kind: Class, label: str, value: str, separator: str = _HARD_SEP) -> Pattern:
    return Pattern(kind, re.compile(rf"(?<![\w-])(?:{label}){separator}(?P<value>{value})", re.I))


_FULL_DATE = rf"(?:{DATE}|\d{{1,2}}\.? ?[^\W\d]+ \d{{4}}|\d{{4}}年\d{{1,2}}月\d{{1,2}}日)"
_FOREIGN_TIME_LABEL = (
    r"(?:heutiges|aktuelles) datum|heute ist(?: der)?|aktuelle (?:uhr)?zeit|date (?:du jour|actuelle)"
    r"|nous sommes le|heure actuelle|fecha (?:actual|de hoy)|hoy es|hora actual|data (?:odierna|attuale"
    r"|de hoje)|oggi è|hoje é|現在の?(?:日時|時刻|日付)|今日(?:の日付)?は?|当前(?:时间|日期)|今天(?:是|的日期)?|오늘"
)
_LIVE = (
    r"weather|temperature|stock(?: price| level)?|price|exchange rate|inventory|status|queue|load"
)

LABELLED = (
    _labelled("time", _TIME_LABEL, f"(?:{DATE})(?:,? (?:at )?{CLOCK})?|{CLOCK}|{EPOCH}", _SEP),
    _labelled("time", r"the time now", CLOCK, _SEP),
    _labelled(
        "time",
        _FOREIGN_TIME_LABEL,
        rf"[^\n]{{0,12}}?(?:{_FULL_DATE}|{CLOCK})[^\n]{{0,12}}",
        r"\s*[:：=]?\s*",
    ),
    _labelled(
        "time",
        r"(?:retrieved|updated|refreshed|synced|fetched|loaded|as of)",
        rf"(?:on |at )?(?:{DATE})[T ,]+(?:at )?{CLOCK}",
        r"\s*[:=]?\s*",
    ),
    _labelled("time", r"as of", rf"{_FULL_DATE}(?=,? (?:you|the current|it is))", r"\s+"),
    _labelled("time", rf"current (?:{_LIVE})", r"[^\n.]{0,30}?(?:is|are|:) ?[^\n]*?\d[^\n]*", r""),
    _labelled("time", r"it is (?:now )?(?:calendar )?week", r"\d{1,2}\b", r"\s+"),
    _labelled("time", r"it is (?:now )?(?:an? )?", rf"{_DAY} (?:morning|afternoon|evening)", r""),
    _labelled(
        "counter",
        r"(?:current|total|session) cost|cost so far|(?:context|tokens) used",
        r"\$?\d[\d,.]*",
        _SEP,
    ),
    _labelled("counter", _COUNTER_LABEL, r"\d[\d,.]*", _SEP),
    Pattern(
        "counter",
        re.compile(
            r"(?im)^(?:attempt|turn|retry|iteration|step) ?[:#]? ?(?P<value>\d+(?: (?:of|/) ?\d+)?) ?\.?$"
        ),
    ),
    Pattern(
        "counter",
        re.compile(r"(?i)(?P<value>\d[\d,.]*) (?:tokens|turns|messages) (?:remaining|left)"),
    ),
    _labelled("random", _RANDOM_LABEL, _DRAWN),
    _labelled("random", r"(?:cb|rnd|rand|cachebust)", r"[\d.]{5,}"),
    _labelled("id", _ID_LABEL, f"{UUID}|{TOKEN}|\\d{{3,}}", _SEP),
    _labelled("id", r"build", r"[\w./@-]*(?=[0-9a-f]*\d)[0-9a-f]{7,}"),
    _labelled(
        "id",
        r"(?:pid|process id|hostname|served by(?: worker)?|pod|worker node)",
        TOKEN + r"|\d{3,}",
        _SEP,
    ),
)
"""A label that says "filled in anew", with a value behind it."""

USER_LINE = re.compile(
    r"(?im)(?:^|(?<=[.!?] ))(?:the )?(?:current |logged[ -]in )?(?:user"
    r"|customer|client|caller|member|"
    r"patient|student|employee)(?:'s)?[ _-]?(?:name|id|e-?mail|handle"
    r"|locale|language|phone|profile)?"
    r" ?(?::|=|is) ?(?!a |an |the |always|never|not |allowed|asking|able"
    r"|free|in |on |at |no |your |our )"
    rf"(?:(?-i:[A-Z])[\w'’-]+(?: (?-i:[A-Z])[\w'’-]+)*(?=[ ,.;\n]|\Z)"
    rf"|{EMAIL}|[a-z]{{2}}[-_][A-Z]{{2}}|\d{{4,}})"
    r"|(?:you are )?(?:talking|speaking|chatting) (?:to|with) (?:the )?(?:user |customer )?"
    r"(?-i:[A-Z])[\w'’-]+(?: (?-i:[A-Z])[\w'’-]+)?(?=[ ,.;(\n]|\Z)"
    rf"|(?:e-?mail|user ?name|logged[ -]in as) ?(?::|=|is)? ?{EMAIL}"
    r"|the user is (?:located|based|living|logged[ -]in|currently) (?:in|at|on|from) (?-i:[A-Z])\w+"
    r"|the (?:user|customer|client|account)(?:'s|’s) (?:current )?(?:balance|plan|cart|subscription|age"
    r"|location|city|order|membership) (?:is|:) ?\S+"
    r"|(?:client|user|remote|caller)?[ _-]?ip(?: address)? ?[:=] ?\d+\.\d+\.\d+\.\d+"
)
"""A line about one user by name, address or number; not one about users in general."""

NAME_ALONE = re.compile(
    r"(?i)(?:the )?(?:user|customer|client|caller|member|patient|student|employee) ?(?::|=|is) ?(?-i:[A-Z])"
)
"""Of those, a name behind a word for anybody: in a prompt folder that is a firm, or an example."""

BARE = (
    Pattern("time", re.compile(r"(?P<value>\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
                               r"(?:Z|[+-]\d{2}:?\d{2})?)")),
    Pattern("time", re.compile(r"(?P<value>\b\d{8}T\d{4}(?:\d{2})?Z?\b)")),
    Pattern("id", re.compile(rf"(?P<value>\b{UUID}\b)")),
    Pattern("random", re.compile(r"(?P<value>\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{8,}\b)")),
)  # fmt: skip
"""Volatile by their own form, in a log where they differ: an instant, a UUID, a hexadecimal number."""

ALONE = (
    Pattern(
        "time",
        re.compile(
            r"(?P<value>\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?:Z|[+-]\d{2}:?\d{2})?)"
        ),
    ),
    Pattern("id", re.compile(rf"(?m)^\W*(?P<value>{UUID})\W*$")),
    Pattern("id", re.compile(r"(?i)traceparent\W+(?P<value>[0-9a-f]{2}-[0-9a-f-]{40,})")),
)
"""The same in a text of which there is one only: an instant to the second, a UUID in its own line."""


_WORDS: dict[Class, str] = {
    "time": r"now|today|date|time|timestamp|datetime|clock|weekday|day|hour|tomorrow|yesterday",
    "id": r"uuid|uuid4|guid|(?:request|session|trace|span|conversation|correlation|thread|run"
    r"|message|msg|call|task|job|invocation|transaction|chat)(?:id|uuid)?|id",
    "random": r"nonce|random|rand|salt|seed|hash|token|cache_?bust(?:er)?|shuffle",
    "counter": r"counter|count|seq|sequence|number|nr|turn|attempt|iteration|index",
    "user": r"user|username|email|mail|customer|client|caller|firstname|lastname|fullname|phone"
    r"|locale|language|lang|timezone|tz|ip|location|city|country|address|birthday"
    r"|profile|preferences|memory"
    r"|memories|account",
}
_STABLE = re.compile(
    r"tenant|company|brand|product|org|organi[sz]ation|team|department|domain|region|model|version"
    r"|effective|release|founded|copyright|max|min|limit|support|contact|sender|default|cutoff|policy",
    re.I,
)


def class_of_name(name: str) -> Class | None:
    """What a variable's name says about its value: 'request_id' → id; None for a stable one."""
    words = re.findall(r"[a-z]+\d?|[A-Z]+(?![a-z])|[A-Z][a-z]+", name)
    lowered = [w.lower() for w in words]
    if any(_STABLE.fullmatch(w) for w in lowered):
        return None
    for kind in ("user", "time", "random", "id", "counter"):
        if any(re.fullmatch(_WORDS[kind], w) for w in lowered):
            return kind
    joined = "".join(lowered)
    return next((k for k, words_ in _WORDS.items() if re.fullmatch(words_, joined)), None)


_EG = r"(?i:\b(?:e\.g\.|for example|such as|for instance|example:|format:))"
_SHOWN = re.compile(
    r"(?im:^\W*examples?\b[^\n]{0,40}\n(?:[^\n]+\n?)+)"
    r"|(?s:```.*?(?:```|\Z)|`[^`\n]+`|\{%-? ?raw.*?endraw ?-?%\})"
    rf"|{_EG}[^\n]{{0,80}}"
    r'|\{[^{}\n]*"[\w-]+"\s*:[^{}\n]*\}'  # an object as an answer should have it
)
_SAMPLES = re.compile(
    r'"(?:examples?|default|const|enum|pattern)"\s*:\s*(?:\[[^\]]*\]|"(?:[^"\\]|\\.)*")'
    rf"|{_EG}[^\n\"]{{0,80}}"
)
"""Values in a schema that are shown, and not said."""


def without_examples(text: str) -> str:
    """`text` with code and examples blanked, every other character in its place: what is shown as
    an example is static."""
    return _SHOWN.sub(_as_spaces, text)


def without_samples(schemas: str) -> str:
    """The same of tool schemas as JSON: without examples, defaults and allowed values."""
    return _SAMPLES.sub(_as_spaces, schemas)


def _as_spaces(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def blank(text: str, patterns: tuple[Pattern, ...]) -> str:
    """`text` with every match's value replaced by a fixed word of its class."""
    for pattern in patterns:
        text = pattern.regex.sub(lambda m, k=pattern.kind: _replace(m, k), text)  # type: ignore[misc]
    return text


def _replace(match: re.Match[str], kind: Class) -> str:
    whole, start = match[0], match.start()
    return whole[: match.start("value") - start] + f"<{kind}>" + whole[match.end("value") - start :]
