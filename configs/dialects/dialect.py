"""How completions are asked for and answered at one kind of endpoint: the nouns of it.

Pure: a chat → the body of a request, the data of a streamed event → what it says, a whole answer →
its text. What is common to all of them is here; each kind is a module of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

Message = dict[str, str]
Tools = Sequence[Mapping[str, Any]]
Render = Callable[[list[Message], tuple[dict[str, Any], ...]], str]
"""Chat → the text of its prompt."""
CUT_OFF = ("abort", "error", "filter", "cancel", "fail", "refus", "timeout", "overload", "safety",
           "recitation", "disconnect")  # fmt: skip
"""Parts of such reasons: vLLM and SGLang (abort, error), OpenAI (content_filter), Anthropic
(refusal), Gemini (SAFETY, RECITATION)."""
WORDS = 300
"""Characters that are kept of what a server said."""


class BrokenAnswerError(Exception):
    """The answer ended or said something that a complete answer would not."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for beside the prompt. `max_tokens`: the most that may be generated."""

    model: str
    max_tokens: int
    stream: bool = False
    ignore_eos: bool = False
    salt: str | None = None
    tools: Tools = ()


@dataclass(slots=True)
class Told:
    """What an answer said besides its text. None: it did not say."""

    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    written_tokens: int | None = None
    """Prompt tokens that were put into a cache."""
    output_tokens: int | None = None
    """All that was generated, reasoning included."""
    reasoning_tokens: int | None = None
    finish_reason: str | None = None
    reasoned: bool = False
    """Whether some of its reasoning was in what arrived."""
    choices: int = 1
    ended: bool = False
    """Whether the answer said itself that it is over."""
    counted: bool = False
    """Whether its last counts came by themselves, as they do when all is generated."""
    so_far: str = ""
    """Its text, where events repeat it."""

    @property
    def hidden_tokens(self) -> int | None:
        """Tokens that were generated and not sent: reasoning that was counted, and not shown."""
        return None if self.reasoned else self.reasoning_tokens or None

    def count(self, **counts: Any) -> None:
        """Note counts of usage. What is no count, or is not said this time, changes nothing."""
        for name, value in counts.items():
            if is_count(value):
                setattr(self, name, value)


class Dialect(Protocol):
    """One kind of endpoint."""

    name: str
    path: str
    """Behind the base URL."""
    end: re.Pattern[bytes]
    """What stands in the last event of an answer, and hardly ever in another,"""
    end_within: int
    """and within how many of its last bytes, so that not all of an answer is searched."""
    has_ignore_eos: bool
    least_tokens: int
    """The fewest that can be asked for."""

    def body(self, prompt: Sequence[Message] | str, asked: Asked) -> dict[str, Any]:
        """The body of a request. `prompt` is a text where there is no `item`."""
        ...

    @property
    def item(self) -> Callable[[Message], dict[str, Any]] | None:
        """A message as it stands in the list of them; None where the prompt is one text."""
        ...

    def take(self, payload: bytes, told: Told) -> str | None:
        """The text that was generated in one event, as it belongs into the history of a chat: empty
        for reasoning and calls of tools; None where the event has nothing that was generated.

        Raises BrokenAnswerError for an error, and for what is no event of this kind.
        """
        ...

    def whole(self, body: bytes, told: Told) -> str:
        """The text of an answer that was not streamed. Raises BrokenAnswerError."""
        ...


def is_cut_off(finish_reason: str | None) -> bool:
    """Whether a server ended an answer for a reason that leaves it incomplete."""
    return finish_reason is not None and any(x in finish_reason.lower() for x in CUT_OFF)


def is_count(value: object) -> bool:
    """Whether it can be a number of tokens: a whole one that is not negative."""
    return type(value) is int and value >= 0


def inner(row: object, *keys: str) -> Any:
    """row[key][key]..., or None where something on the way is no object or has not got it."""
    for key in keys:
        row = row.get(key) if isinstance(row, dict) else None
    return row


def parsed(payload: bytes, what: str = "an event") -> dict[str, Any]:
    """The JSON object. Raises BrokenAnswerError for anything else, and for an error in it."""
    try:
        row = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BrokenAnswerError(f"{what} is not JSON: {shown(payload)}") from None
    if not isinstance(row, dict):
        raise BrokenAnswerError(f"{what} is no object: {shown(payload)}")
    if row.get("error"):
        raise BrokenAnswerError(f"the server sent an error: {words_of(row)}")
    return row


def refuse_other(row: dict[str, Any]) -> None:
    """Raise BrokenAnswerError for an object that is no part of an answer, but says something, as
    gateways do in {"detail": ...}."""
    if any(row.get(key) for key in ("detail", "message", "error", "errors")):
        raise BrokenAnswerError(f"the server sent an error: {words_of(row)}")


def words_of(row: object) -> str:
    """The words of an error, wherever a server puts them."""
    if isinstance(row, dict):
        for key in ("error", "message", "detail", "msg", "errors"):
            if row.get(key):
                return words_of(row[key])
    if isinstance(row, list) and row:
        where = inner(row[0], "loc")
        at = f"{'.'.join(map(str, where))}: " if isinstance(where, list) else ""
        return at + words_of(row[0])
    text = row if isinstance(row, str) else msgspec.json.encode(row).decode()
    return " ".join(text.split())[:WORDS]


def shown(payload: bytes) -> str:
    """The beginning of what cannot be read."""
    return repr(payload[:100])[1:]


def text_of(content: object) -> str:
    """The text of a content, which is a text or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(t for part in parts if isinstance(t := inner(part, "text"), str))


def joined(messages: Sequence[Message], tools: Tools = ()) -> str:
    """The prompt of a model without a chat template: the texts, a blank line between them."""
    del tools  # which only a template can show
    return "\n\n".join(m["content"] for m in messages)
