"""What changed between two compilations of one prompt: where first, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from aot.workloads.prompts.compiled import Compiled
from aot.workloads.requests.tokens import common_prefix

PLAIN = {
    "model": "the model",
    "tokenizer_sha256": "the tokenizer or chat template",
    "block_tokens": "the block size",
    "cache_salt": "the cache salt",
    "template_arguments": "the arguments of the chat template",
}


@dataclass(frozen=True, slots=True)
class Change:
    """`token` counts from 0; None with `why` set when everything is another cache anyway."""

    segment: str | None
    line: int | None
    token: int
    valid_blocks: int
    rebuilt_blocks: int
    why: str | None
    before: str | None
    after: str | None
    static_differs: bool = True

    @property
    def is_stale(self) -> bool:
        """Whether what is in a cache is another thing now: not for another name, or another
        dynamic part."""
        return bool(self.why) or self.rebuilt_blocks > 0 or self.static_differs

    def describe(self) -> str:
        """One paragraph for people."""
        costs = f"{self.valid_blocks} blocks stay valid, {self.rebuilt_blocks} must be rebuilt"
        if self.why:
            return f"{self.why} changed: {costs}"
        if not self.is_stale:
            return "what is static is the same; its name, or dynamic templates and inputs, changed"
        place = self.segment or "the dynamic templates"
        at = f", line {self.line}" if self.line else ""
        words = f" ({self.before!r} → {self.after!r})" if self.before != self.after else ""
        return f"first change in {place}{at}, static token {self.token}{words}: {costs}"


def compare(old: Compiled, new: Compiled) -> Change | None:
    """None when the file would be the same; else the first change and the blocks it costs."""
    if old == new:
        return None
    moved = [words for key, words in PLAIN.items() if getattr(old, key) != getattr(new, key)]
    if old.weights_sha256 is not None and old.weights_sha256 == new.weights_sha256:
        moved = [words for words in moved if words != PLAIN["model"]]  # by another path
    token = common_prefix(old.static_token_ids, new.static_token_ids)
    if moved:
        return Change(None, None, 0, 0, new.full_blocks, " and ".join(moved), None, None)
    valid = min(token // new.block_tokens, old.full_blocks, new.full_blocks)
    segment, line, before, after = _first_difference(old, new)
    differs = old.static_token_ids != new.static_token_ids
    rebuilt = new.full_blocks - valid
    return Change(segment, line, token, valid, rebuilt, None, before, after, differs)


def _first_difference(
    old: Compiled, new: Compiled
) -> tuple[str | None, int | None, str | None, str | None]:
    """Segment, line (from 1) and both lines of the first difference, in the prompt's order."""
    olds, news = ({s.name: s.text for s in c.segments} for c in (old, new))
    for name in dict.fromkeys([s.name for s in new.segments] + [s.name for s in old.segments]):
        if name not in news:
            return name, None, "there", "removed"
        if name not in olds:
            return name, 1, "not there", news[name].partition("\n")[0]
        if olds[name] != news[name]:
            old_lines, new_lines = olds[name].split("\n"), news[name].split("\n")
            line = common_prefix(old_lines, new_lines)
            return name, line + 1, _line(old_lines, line), _line(new_lines, line)
    return None, None, None, None


def _line(lines: list[str], number: int) -> str:
    return lines[number][:80] if number < len(lines) else ""
