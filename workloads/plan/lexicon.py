"""Texts of an exact number of tokens.

A pool of common words of which each is one token behind a space, in the model's own tokenizer. As
no tokenizer merges across words, the tokens of a text made of them are its words: nothing has to be
counted again, and what is planned is what is served. That this holds is checked, not assumed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from aot.configs.kernel.errors import UsageError
from aot.workloads.requests.request import Message, Tools

Encode = Callable[[list[Message], Tools], list[int] | None]
WORDS = (Path(__file__).parent / "words.txt").read_text(encoding="utf-8").split()
FEWEST = 128
REPEATS = 4
OPENING = "Please"


@dataclass(slots=False)
class Lexicon:
    """Makes texts for one tokenizer. `encode` counts whole chats; None: it cannot."""

    encode: Encode

    def tokens(self, messages: list[Message], tools: Tools = ()) -> int:
        """Tokens of a chat. UsageError where they cannot be counted."""
        ids = self.encode(messages, tools)
        if ids is None:
            raise UsageError(
                "texts of exact lengths need the model's tokenizer: give --tokenizer NAME (aot "
                "schedule: --model), or 'tokenizer' in the server file"
            )
        return len(ids)

    @cached_property
    def pool(self) -> list[str]:
        """Words that are one token each, wherever they stand; a power of two of them."""
        base = self._length("")
        good = [w for w in WORDS if self._length(f" {w}" * REPEATS) == base + REPEATS]
        size = 1 << (len(good).bit_length() - 1) if good else 0
        if size < FEWEST:
            raise UsageError(
                f"only {len(good)} of {len(WORDS)} common words are one token each in this "
                "tokenizer: texts of exact lengths cannot be made for it"
            )
        return good[:size]

    def words(self, count: int, rng: random.Random) -> str:
        """`count` words, each with a space before it: `count` tokens behind any word."""
        pool = self.pool
        mask = len(pool) - 1
        # randbytes is getrandbits: one call for all, and the same on every machine.
        raw = rng.randbytes(2 * count)
        drawn = memoryview(raw).cast("H") if count else ()
        return "".join([" " + pool[n & mask] for n in drawn])

    def _length(self, words: str) -> int:
        return self.tokens([{"role": "user", "content": OPENING + words}])


def fitted(
    lexicon: Lexicon, build: Callable[[str], list[Message]], target: int, rng: random.Random
) -> str:
    """Words such that the chat `build(words)` has exactly `target` tokens (a static part, and what
    stands behind it).

    Raises UsageError where it has more without any, or where words do not add up.
    """
    base = lexicon.tokens(build(""))
    if base > target:
        raise UsageError(
            f"static_tokens: a chat of {target} tokens is wanted, and the frame with a single word "
            f"of text has {base} already: {base - target} more at least"
        )
    words = lexicon.words(target - base, rng)
    tokens = lexicon.tokens(build(words))
    if tokens != target:
        raise UsageError(
            f"{target} tokens are wanted and {tokens} come out: this tokenizer merges words, so "
            "lengths cannot be exact"
        )
    return words
