"""Tokens of live traffic as text, and what lint would say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer

from aot.configs.kernel.errors import UsageError
from aot.scripts.live.facts import Parting
from aot.serving.live.places import Place
from aot.workloads.lint.flaw import RULES
from aot.workloads.lint.naming import kind_at

SAME = 0.5
"""Of the tokens, that come back when their text is read again: with the right tokenizer nearly
all."""


@dataclass(slots=True)
class Words:
    """By the tokenizer of a model folder, which is checked against the first tokens that come."""

    folder: Path
    _tokenizer: Tokenizer = field(init=False)
    _checked: bool = False

    def __post_init__(self) -> None:
        file = self.folder / "tokenizer.json"
        if not file.exists():
            raise UsageError(f"--tokenizer {self.folder}: no tokenizer.json there")
        self._tokenizer = Tokenizer.from_file(str(file))

    def of(self, place: Place, kind: str, before: Sequence[int]) -> Parting:
        """A place with the text around it. UsageError where the tokens are of another model."""
        if not self._checked:
            self._check([*before, *place.now, *place.before])
            self._checked = True
        lead, now, earlier = (self._text(ids) for ids in (before, place.now, place.before))
        rule = None
        if kind == "another text":
            rule = kind_at(lead + now, len(lead)) or kind_at(lead + now, len(lead) + 1)
        rule = rule or {"another order": "list-order", "another text": "varying-text"}.get(
            kind, "cache-key"
        )
        return Parting(
            place.at, place.times, place.tokens, kind, rule, RULES[rule][1], lead, now, earlier
        )

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def _check(self, ids: Sequence[int]) -> None:
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if any(i >= size or i < 0 for i in ids):
            raise UsageError(
                f"--tokenizer {self.folder}: is of another model: the events have token "
                f"{max(ids)}, and it knows {size}"
            )
        again = self._tokenizer.encode(self._text(ids), add_special_tokens=False).ids
        pairs = set(pairwise(ids))
        if len(pairs & set(pairwise(again))) < SAME * len(pairs):
            raise UsageError(
                f"--tokenizer {self.folder}: is of another model: the text that it makes of the "
                "tokens is not made of them again"
            )
