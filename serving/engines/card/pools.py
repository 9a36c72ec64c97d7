"""How many tokens a cache of so many bytes holds, by what the layers of a model keep (pure).

Where all layers keep every token that is a division. With windows or states it is what an engine
says of itself: vLLM, since 0.21, how many requests of the longest length fit at once times that
length (v1/core/kv_cache_utils.py, get_max_concurrency_for_kv_cache_config); SGLang, the tokens of
its pool for the layers that keep all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aot.configs.schema.hardware import Architecture

ALIGNED = 16
"""Tokens of a block that is made as large as a state are a multiple of it."""
STATES_OF_A_REQUEST = 2
"""With prefix caching: the one it works on, and the last one that was kept (mamba_cache_mode
"align")."""
MUCH_MORE = 1.5
SWA_RATIO, STATE_RATIO = 0.8, 0.9
"""SGLang's defaults: pool of the windows over that of all tokens; of states over that of tokens."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Bytes on one card. `full` and `sliding`: of a token in one such layer; `state`: of a request
    in one layer with states."""

    model: Architecture
    full: int
    sliding: int
    state: int

    @property
    def is_plain(self) -> bool:
        """Whether all layers keep every token."""
        return not (self.model.sliding_layers or self.model.state_layers)

    @property
    def full_layers(self) -> int:
        return self.model.layers - self.model.sliding_layers

    @property
    def token_bytes(self) -> int:
        """Of a token while every layer keeps it."""
        return self.full_layers * self.full + self.model.sliding_layers * self.sliding


def kept(model: Architecture, cards: int, value_bytes: int, latent_bytes: int | None) -> Kept:
    """`latent_bytes`: of a token's latent in one layer, where the format is its own.

    Heads are divided among cards, and copied where there are more cards than heads; the latent of
    multi-head latent attention, and the index beside it, are on every card.
    """
    state = -(-(model.state_bytes or 0) // cards)
    if model.latent_dim:
        latent = latent_bytes or model.latent_dim * value_bytes
        return Kept(model, latent + model.index_bytes, 0, state)
    heads = max(1, -(-model.kv_heads // cards))
    own = 2 * heads * model.head_dim * value_bytes
    if not model.global_head_dim:
        return Kept(model, own, own, state)
    globally = max(1, -(-(model.global_kv_heads or model.kv_heads) // cards))
    return Kept(model, 2 * globally * model.global_head_dim * value_bytes, own, state)


@dataclass(frozen=True, slots=True)
class Held:
    """`tokens`: of the whole cache. `states`: requests whose states fit; None where none are."""

    tokens: int
    states: int | None = None


def in_full(cache: int, of: Kept, block: int) -> Held:
    """As if every layer kept every token: at least so many, whatever an engine makes of windows."""
    return Held(max(0, cache // of.token_bytes) // block * block)


def in_blocks(cache: int, of: Kept, block: int, context: int, in_flight: int) -> Held:
    """vLLM's way: layers of one kind are parted into groups of equally many, which draw blocks of
    one size from one pool. `in_flight`: tokens that are scheduled and not settled."""
    if of.is_plain:
        return in_full(cache, of, block)
    kinds = {
        "full": (of.full_layers, of.full * block),
        "sliding": (of.model.sliding_layers, of.sliding * block),
        "state": (of.model.state_layers, of.state),
    }
    counts = [count for count, _ in kinds.values() if count]
    page = max(page for count, page in kinds.values() if count)
    if of.state:  # the blocks of attention are made as large
        tokens = math.ceil(of.state / max(of.full, 1) / ALIGNED) * ALIGNED
        block, page = max(block, tokens), max(page, tokens * of.full)
    least, most = min(counts), max(counts)
    group = most if most < MUCH_MORE * least else least
    groups = {name: -(-count // group) for name, (count, _) in kinds.items()}
    # A kind with smaller pages has more tokens in a block.
    full_block = block * (page // (of.full * block)) if of.full_layers else block
    window_block = block * max(1, page // max(of.sliding * block, 1))
    window = min((of.model.sliding_window or 0) - 1 + in_flight, context)
    request = (
        groups["full"] * -(-context // full_block)
        + groups["sliding"] * (-(-window // window_block) + 1)
        + groups["state"] * STATES_OF_A_REQUEST
    )
    blocks = max(0, cache // (group * page))
    return Held(int(blocks / request * context), blocks if of.state else None)


def in_pools(cache: int, of: Kept, page: int, swa_ratio: float, state_ratio: float) -> Held:
    """SGLang's way: a pool for each kind, of fixed shares; how many states are in theirs follows
    from a type of numbers of its own, and is not said."""
    if of.model.state_layers:
        cache = int(cache / (1 + state_ratio))
    token = of.full_layers * of.full + swa_ratio * of.model.sliding_layers * of.sliding
    return Held(max(0, int(cache / token)) // page * page)
