"""Random schedules of requests that share beginnings, overlap, are computed in parts and push each
other out, driven through `PagedCache`; and their steps, for another cache to be held against it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from aot.configs.caches.paged import PagedCache, Running
from aot.configs.caches.rule import CacheRule, Layers
from aot.configs.kernel.chains import block_chain

BLOCK = 16
FULL = Layers("full")
MODELS = (
    (Layers("window", 128),),
    (FULL, Layers("window", 128)),
    (FULL, Layers("window", 512)),
    (FULL, Layers("window", 128, 2)),
    (FULL, Layers("state")),
    (FULL, Layers("states")),
    (FULL, Layers("window", 128), Layers("window", 64)),
)
RULES = [
    CacheRule(BLOCK),
    CacheRule(BLOCK, drops_last_block=True),
    CacheRule(BLOCK, (FULL, Layers("chunk", 4 * BLOCK))),
    *(
        CacheRule(BLOCK, model, retention, drafts)
        for model in MODELS
        for retention in (0, None, 4 * BLOCK)
        for drafts in (False, True)
    ),
]
REQUESTS = 30
AT_ONCE = 3


@dataclass(slots=True)
class Played:
    running: Running
    text: list[int]
    left: int
    """Tokens to generate."""


@dataclass
class Schedule:
    """One schedule. `found`: tokens by request; `steps`: what tests/support/vllm_cache_manager.py
    takes."""

    rule: CacheRule
    rng: random.Random
    blocks: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    found: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        copies = sum(group.copies for group in self.rule.layers)
        # The largest three prompts fit, and little else.
        self.blocks = copies * self.rng.choice([150, 170, 250, 600])
        self.cache = PagedCache(self.rule, self.blocks)
        sizes = [BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK, 17 * BLOCK + 3, 40 * BLOCK]
        self.beginnings = [self._tokens(self.rng.choice(sizes)) for _ in range(4)]
        self.texts: list[list[int]] = []
        self.live: dict[str, Played] = {}

    def play(self) -> Schedule:
        while len(self.found) < REQUESTS or self.live:
            room = len(self.found) < REQUESTS and len(self.live) < AT_ONCE
            if room and (not self.live or self.rng.random() < 0.5):
                self._start(f"r{len(self.found)}")
            else:
                self._go_on(self.rng.choice(list(self.live)))
        return self

    def as_json(self) -> dict[str, Any]:
        return {"rule": self.rule.as_json(), "blocks": self.blocks, "steps": self.steps}

    def _tokens(self, count: int) -> list[int]:
        return [self.rng.randrange(1000) for _ in range(count)]

    def _prompt(self) -> list[int]:
        if self.texts and self.rng.random() < 0.25:
            prompt = list(self.rng.choice(self.texts))
        else:
            cut = self.rng.choice([None, None, None, 7 * BLOCK])
            own = self.rng.choice([1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
            prompt = self.rng.choice(self.beginnings)[:cut] + self._tokens(own)
        if self.texts and self.rng.random() < 0.2:
            prompt += self._tokens(self.rng.choice([1, BLOCK, 2 * BLOCK]))
        self.texts.append(prompt)
        return prompt

    def _start(self, name: str) -> None:
        prompt = self._prompt()
        running = self.cache.start(len(prompt), block_chain(prompt, BLOCK))
        self.found[name] = running.found * BLOCK
        tokens = self._chunk(running)
        self.cache.advance(running, tokens)
        self.steps.append({"id": name, "prompt": prompt, "tokens": tokens})
        self.live[name] = Played(running, list(prompt), self.rng.choice([0, 0, 3, BLOCK + 2]))

    def _go_on(self, name: str) -> None:
        played = self.live[name]
        running, step = played.running, {"id": name}
        if running.computed_tokens < running.prompt_tokens:
            step["tokens"] = self._chunk(running)
            self.cache.advance(running, step["tokens"])
        elif played.left:
            played.left -= 1
            step |= {"tokens": 1, "output": self._tokens(1)}
            played.text += step["output"]
            running.names = list(block_chain(played.text, BLOCK))
            self.cache.advance(running, 1)
        else:
            self.cache.finish(running)
            del self.live[name]
        self.steps.append(step)

    def _chunk(self, running: Running) -> int:
        """How much of a prompt is computed next: as vLLM's scheduler cuts it for states, which are
        kept where a chunk ends (v1/core/sched/scheduler.py, _mamba_block_aligned_split)."""
        start, size = running.computed_tokens, running.prompt_tokens
        end = size if self.rng.random() < 0.6 else self.rng.randrange(start + 1, size + 1)
        if not any(group.kind == "state" for group in self.rule.layers):
            return end - start
        if end < size:
            end = max(end // BLOCK * BLOCK, (start // BLOCK + 1) * BLOCK)
        drops = int(self.rule.drops_last_block)
        last = max((size - 1 + drops) // BLOCK - drops, 0) * BLOCK
        stops = [last, running.junction * BLOCK]
        return min([stop for stop in stops if start < stop < end], default=min(end, size)) - start
