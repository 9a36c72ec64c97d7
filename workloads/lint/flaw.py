"""What lint finds: a cause that breaks prefix reuse, where it is, what it costs, how to mend it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning", "note"]
MIN_DUPLICATE_WORDS = 30
"""A paragraph that is worth saying once only."""

GENERAL = ("dynamic-first", "varying-text")
"""One cause in two forms: blocks, and lines, that change before what does not."""

RULES: dict[str, tuple[str, str]] = {
    "volatile-time": (
        "a time or date that changes stands in the static part",
        "send the date only, in the last user message, or let the model ask a tool for it",
    ),
    "volatile-id": (
        "an id that changes with every request or session stands in the static part",
        "leave it out of the prompt: send it as metadata, or at the very end",
    ),
    "volatile-random": (
        "random text, a nonce or a header that changes stands in the static part",
        "leave it out of the prompt",
    ),
    "volatile-counter": (
        "a number that counts up stands in the static part",
        "leave it out, or move it to the end of the last user message",
    ),
    "user-in-prefix": (
        "text about one user stands in the static part",
        "move it to the first user message, behind everything that users share",
    ),
    "unfilled-variable": (
        "a variable in a static text has no fixed value",
        "give it one in variables.yaml, or move it into a dynamic template",
    ),
    "dynamic-first": (
        "dynamic text stands before static text",
        "put what is always the same first, what changes last",
    ),
    "varying-text": (
        "a line that differs between requests stands before what they share",
        "move it behind everything that is shared, or leave it out",
    ),
    "tool-order": ("the tools come in varying order", "sort them by name before sending"),
    "tools-changed": (
        "tools come and go between requests",
        "send one fixed set, and mask what may not be called",
    ),
    "tool-text": (
        "the text of a tool changes between requests",
        "keep what changes out of descriptions and schemas: send it in a message",
    ),
    "key-order": (
        "the keys of tool schemas come in varying order",
        "serialise definitions canonically (sort_keys)",
    ),
    "replayed-bytes": (
        "tool calls or results are replayed in another form than they first had",
        "keep and resend the exact bytes; do not parse and serialise them again",
    ),
    "call-ids": (
        "ids of tool calls are made anew when the history is rebuilt",
        "keep the ids that the model gave, and resend them",
    ),
    "reasoning-changed": (
        "reasoning in earlier turns is sent now and left out then, or changes",
        "send it the same way every time: keep it, or leave it out from the first turn on",
    ),
    "document-moves": (
        "a document is taken out of an earlier message and put into the newest one",
        "leave it where it was first sent",
    ),
    "role-changed": (
        "the same text comes now under one role, now under another",
        "use one role for it",
    ),
    "list-order": (
        "the same entries come in varying order",
        "sort them before they are written into the prompt (sets and maps have no order)",
    ),
    "document-order": (
        "the same documents come in varying order",
        "order them canonically (by id), the most used ones first",
    ),
    "example-order": ("examples are shuffled or sampled", "fix the set and its order"),
    "history-truncated": (
        "the history is cut from the front",
        "cut it in large steps and rarely, so that most turns only append",
    ),
    "history-rewritten": (
        "earlier messages are changed from turn to turn",
        "append only; summarise once and rarely",
    ),
    "template-date": (
        "the model's chat template writes today's date into the prompt",
        "pin it: pass date_string in chat_template_kwargs, or a template without it",
    ),
    "template-history": (
        "the model's chat template renders earlier turns differently later",
        "use a template that keeps them (e.g. preserve_thinking)",
    ),
    "whitespace": (
        "the same text differs in white space, line ends or Unicode form",
        "normalise when the prompt is built: LF, NFC, no byte-order mark",
    ),
    "short-prefix": (
        "the static part is too short to be worth it",
        "nothing to mend: caching will not pay here",
    ),
    "duplicate-text": ("static text stands there twice", "say it once"),
    "model-changes": (
        "a conversation goes on with another model or adapter, whose cache is its own",
        "keep one model for a conversation, or send rarely to another",
    ),
    "template-arguments": (
        "arguments of the chat template change within a conversation, and with them its beginning",
        "choose them once for a conversation (reasoning effort, thinking, date)",
    ),
    "served-less": (
        "the log's own server found less than what had been sent before",
        "found less soon after: a cache too small, replicas without affinity; after a rest: its "
        "lifetime",
    ),
    "cache-key": (
        "a cache key outside the text differs between requests",
        "use one salt per tenant, not per request, and one adapter name",
    ),
}
"""What each rule means, and the fix."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One finding. `tokens_per_request`: what a request pays for it on average; None: unknown."""

    rule: str
    level: Level
    file: str
    line: int | None
    field: str | None
    detail: str
    tokens_per_request: float | None
    bound: bool = False
    """Whether the cost is what would be gained at best, rather than what is lost."""

    @property
    def fix(self) -> str:
        return RULES[self.rule][1]

    def as_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule,
            "level": self.level,
            "file": self.file,
            "line": self.line,
            "field": self.field,
            "detail": self.detail,
            "tokens_per_request": self.tokens_per_request,
            "at_most": self.bound,
            "fix": self.fix,
        }


def both_forms(rules: Iterable[str]) -> set[str]:
    """With either rule of GENERAL the other: what mends one form may be the correction of both."""
    found = set(rules)
    return found | set(GENERAL) if found & set(GENERAL) else found
