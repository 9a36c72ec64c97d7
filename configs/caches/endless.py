"""A cache that gives nothing up: what it would find of each prompt after all that came before."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from aot.configs.caches.rule import CacheRule
from aot.configs.kernel.chains import block_chain


class EndlessCache:
    """By the rule of a model's cache. Prompts with different cache salts share nothing."""

    def __init__(self, rule: CacheRule) -> None:
        self.rule = rule
        self._kept: list[set[Hashable]] = [set() for _ in rule.layers]

    def __len__(self) -> int:
        """Blocks, of the layers that keep most."""
        return max(len(kept) for kept in self._kept)

    def found_tokens(self, prompt: Sequence[int], salt: str | None = None) -> int:
        """What is found of `prompt`; its last token is never."""
        names = block_chain(prompt, self.rule.block_tokens, salt)
        return self.found_blocks(len(prompt), names) * self.rule.block_tokens

    def found_blocks(self, prompt_tokens: int, names: Sequence[Hashable]) -> int:
        """The same in blocks, of a prompt whose full blocks have these `names`."""
        return self._found(prompt_tokens, names)[0]

    def shared_tokens(self, prompt: Sequence[int], salt: str | None = None) -> int:
        """Leading tokens, in whole blocks, that some earlier prompt begins with, the last one, too:
        what its layers of full attention hold."""
        names = block_chain(prompt, self.rule.block_tokens, salt)
        missing = (at for at, name in enumerate(names) if name not in self._kept[0])
        return next(missing, len(names)) * self.rule.block_tokens

    def add(self, prompt: Sequence[int], salt: str | None, leaves: Sequence[int] = ()) -> None:
        """Compute `prompt`; `leaves`: with what is known of the answer behind it."""
        junction = 0
        if not self.rule.is_dense:
            names = block_chain(prompt, self.rule.block_tokens, salt)
            junction = self._found(len(prompt), names)[1]
        names = block_chain(leaves or prompt, self.rule.block_tokens, salt)
        self._keep(len(prompt), names, junction)

    def add_blocks(self, prompt_tokens: int, names: Sequence[Hashable]) -> None:
        """Compute a prompt whose full blocks have these `names`."""
        self._keep(prompt_tokens, names, self._found(prompt_tokens, names)[1])

    def _keep(self, prompt_tokens: int, names: Sequence[Hashable], junction: int) -> None:
        for group, kept in zip(self.rule.layers, self._kept, strict=True):
            blocks = self.rule.kept(group, prompt_tokens, junction, 0, len(names))
            kept.update(names[at] for at in blocks)

    def _found(self, prompt_tokens: int, names: Sequence[Hashable]) -> tuple[int, int]:
        return self.rule.found(
            prompt_tokens, len(names), lambda number, at: names[at] in self._kept[number]
        )
