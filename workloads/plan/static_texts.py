"""Static prefixes of an exact length: a prompt folder's prose, filled up or cut to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from aot.configs.kernel.errors import UsageError
from aot.workloads.plan.draws import stream
from aot.workloads.plan.lexicon import OPENING, Lexicon, fitted
from aot.workloads.prompts.folder import PromptFolder
from aot.workloads.requests.request import Message, Prefix
from aot.workloads.requests.tokens import common_prefix

PROBE_TOKENS = 8
SLACK_TOKENS = 48
"""Room that is left for names of other lengths when prose is cut once for all prefixes."""
OTHER_OPENING = "Alpha"

TENANT_NAMES = (
    "Northgate Garden Supply,Verdant Home,Brookside Tools,Kepler Outdoor,Old Mill Nursery,"
    "Sunrow Hardware,Pine & Petal,Meadowline,The Rain Shop,Castle Gardens"
).split(",")


def tenant_name(number: int) -> str:
    """A name for tenant `number`, distinct for every number and different in its first words."""
    name = TENANT_NAMES[number % len(TENANT_NAMES)]
    round_ = number // len(TENANT_NAMES)
    return f"{name} {round_ + 1}" if round_ else name


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


@dataclass(slots=False)
class StaticTexts:
    """Makes prefixes for one tokenizer from one folder. `seed` decides the filling."""

    lexicon: Lexicon
    folder: PromptFolder
    seed: int

    @cached_property
    def tail_tokens(self) -> int:
        """Tokens behind the static part of a chat whose user says one word: that, and the opening
        of the answer."""
        first, second = (
            self.lexicon.encode([system("x"), user(text)], ()) or []
            for text in (OPENING, OTHER_OPENING)
        )
        return len(first) - common_prefix(first, second)

    def base_tokens(self, static_tokens: int) -> int:
        """Tokens of a chat with such a prefix and a user who says nothing."""
        if static_tokens == 0:
            return self.lexicon.tokens([user(OPENING)]) - 1
        return static_tokens + self.tail_tokens - 1  # the user's first word is part of the tail

    @cached_property
    def head_tokens(self) -> int:
        """Tokens before the first word of a system message."""
        first, second = (
            self.lexicon.encode([system(word), user(OPENING)], ()) or []
            for word in (OPENING, OTHER_OPENING)
        )
        return common_prefix(first, second)

    def prefix(
        self, name: str, static_tokens: int, salt: str | None = None, shared_tokens: int = 0
    ) -> Prefix:
        """A static prefix of exactly `static_tokens`: words that all prefixes share, up to
        `shared_tokens`, the folder's system message for `name`, then filling.

        With 0 there is none of ours: what a chat template opens with is all that is shared.
        Raises UsageError where that is more already.
        """
        if static_tokens == 0:
            return self.of_messages(name, (), salt)
        shared = self._shared(shared_tokens)
        # Behind what all share comes what they do not: the name.
        start = (f"{shared}{name}.\n" if shared else "") + self._cut(static_tokens, shared).replace(
            MARK, name
        )
        rng = stream(self.seed, f"static {name}")

        def chat(words: str) -> list[Message]:
            return [system(start + words), user(OPENING)]

        words = fitted(self.lexicon, chat, static_tokens + self.tail_tokens, rng)
        return self.of_messages(name, (system(start + words),), salt)

    def _shared(self, tokens: int) -> str:
        """The beginning of every prefix, `tokens` long with what the template puts before it."""
        if tokens == 0:
            return ""
        words = tokens - self.head_tokens - 1
        if words < 0:
            raise UsageError(f"shared_tokens: the chat template alone has {self.head_tokens}")
        return OPENING + self.lexicon.words(words, stream(self.seed, "shared")) + " "

    def of_messages(self, name: str, messages: tuple[Message, ...], salt: str | None) -> Prefix:
        """A prefix with probes that no request begins like."""
        rng = stream(self.seed, f"probes {name}")
        first, second = (
            (user(opening + self.lexicon.words(PROBE_TOKENS, rng)),)
            for opening in (OPENING, OTHER_OPENING)
        )
        return Prefix(name, messages, (first, second), (), salt)

    def _named(self, name: str) -> str:
        text = self.folder.system(_variables(self.folder, name))["content"]
        # Prefixes of different tenants differ from their first words on.
        return text if name in text else f"{name}.\n{text}"

    def _cut(self, static_tokens: int, shared: str) -> str:
        """The prose for any name, at most as long as `static_tokens` allow; cut between words."""
        if static_tokens not in self._cuts:
            words = self._named(MARK).split(" ")
            low, high = 1, len(words)
            room = static_tokens + self.tail_tokens - SLACK_TOKENS
            while low < high:
                middle = (low + high + 1) // 2
                chat = [system(f"{shared}{MARK} " + " ".join(words[:middle])), user(OPENING)]
                fits = self.lexicon.tokens(chat) <= room
                low, high = (middle, high) if fits else (low, middle - 1)
            self._cuts[static_tokens] = " ".join(words[:low])
        return self._cuts[static_tokens]

    @cached_property
    def _cuts(self) -> dict[int, str]:
        return {}


MARK = "Northgate Garden Supply"
"""Stands for any name while prose is cut."""


def _variables(folder: PromptFolder, name: str) -> Mapping[str, str]:
    return {**folder.variables, "tenant": name}
