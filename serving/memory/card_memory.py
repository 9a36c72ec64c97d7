"""What a server needs of a card's memory, and what is left for the KV cache (pure).

weights + reserve + KV cache = what the engine may use. The weights and the bytes per token follow
from the model; how much the engine may use, and SGLang's reserve, are the engines' own rules;
vLLM's reserve is measured by vLLM when it starts, and an estimate here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from aot.configs.kernel.errors import NotSettledError, UsageError
from aot.configs.schema.hardware import Architecture
from aot.configs.schema.server import ServerConfig
from aot.serving.engines import table
from aot.serving.engines.card.budget import ENCODER_GIB, GIB, Budget, Place
from aot.serving.engines.card.pools import Held, kept
from aot.serving.engines.flags import canonical, has, value_of

SPARSE_FP8_BYTES = 656
CERTAIN = 1.3
"""Most over least tokens of a cache, from which on a size is not given as one number."""
BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one card of a replica. `cache_gib` can be negative: then nothing is left. What
    an engine reserves it measures at its start: the numbers are of the most that was logged, so
    that what is said to fit does, and `most_` of the least."""

    place: Place
    cards: int
    budget: Budget
    weights_gib: float
    kv_bytes_per_token: int
    """On each card: heads are divided among cards."""
    kv_dtype: str
    left_gib: float
    """What weights and the most of a reserve leave."""
    most_left_gib: float
    """What weights and the least of a reserve leave."""
    cache_gib: float
    """What the cache gets: what is left, or what the server file asks for."""
    cache_tokens: int
    """The whole cache, in tokens of one replica, as the engine counts it: with windows or states,
    requests of the longest length that fit at once, times that length."""
    most_cache_tokens: int
    """The same with the least of a reserve."""
    unknown_gib: float
    """What may be needed on top and was seen in no log: nothing fits that needs it."""
    sure_tokens: int
    """What the cache holds without that."""
    context_tokens: int
    states: int | None = None
    """Requests whose states fit; None for models without."""
    most_states: int | None = None
    states_needed: int | None = None

    @property
    def fits(self) -> bool:
        """Whether the cache is paid for, and holds the longest prompt."""
        paid = 0 < self.cache_gib <= self.left_gib
        tokens = min(self.cache_tokens, self.sure_tokens)
        return paid and tokens >= self.context_tokens and self.states_fit

    @property
    def may_fit(self) -> bool:
        """Whether it does with the least that was logged of a reserve."""
        wanted = self.cache_gib if self.cache_gib != self.left_gib else 0.0
        paid = max(wanted, 0.0) < self.most_left_gib
        return (
            paid and self.most_cache_tokens >= self.context_tokens and self._have(self.most_states)
        )

    @property
    def is_certain(self) -> bool:
        """Whether the cache's size is known within CERTAIN."""
        return self.most_cache_tokens <= CERTAIN * self.cache_tokens

    @property
    def states_fit(self) -> bool:
        """Whether each request that it is started for has its state."""
        return self._have(self.states)

    def _have(self, states: int | None) -> bool:
        return states is None or states >= (self.states_needed or 0)


def memory_of(server: ServerConfig, model: Architecture, place: Place, dtype: str) -> Memory:
    """The memory of `server` with `model` on `place`. `dtype`: what the engine computes in.

    Raises NotSettledError for what is not computed (a KV dtype of unknown size, weights split in
    other ways than by tensor parallelism), UsageError for numbers that are none, and for cards that
    do not divide the model's heads.
    """
    engine = table.engine(server.engine)
    rules = engine.memory
    if rules is None:
        raise UsageError(f"engine: what {engine.title} does with a card's memory is not known here")
    cards, context = server.cards, _context_tokens(server, model)
    server = server.model_copy(
        update={"args": canonical(server.args, engine.name), "context_tokens": context}
    )
    _refuse_what_is_not_computed(server.args, rules.not_computed)
    _check_heads(model, cards)
    weights_gib = _weights_gib(server, model, dtype) / cards
    kv_dtype, kv_bytes = _kv_dtype(server, model, dtype)
    of = kept(model, cards, kv_bytes, _latent_bytes(model, kv_dtype))
    per_token = of.token_bytes
    room = rules.budget(server, model, place, cards)
    left_gib = room.usable_gib - weights_gib - room.reserve_gib
    block = server.block_tokens or engine.default_blocks["cuda" if place.cuda else "cpu"]
    asked_gib = rules.asked_gib(server, per_token, block)
    cache_gib = left_gib if asked_gib is None else asked_gib
    if rules.takes_what_there_is:
        cache_gib = min(cache_gib, left_gib)
    most_left_gib = room.usable_gib - weights_gib - room.least_gib
    most_gib = most_left_gib if asked_gib is None else cache_gib

    def held_by(gib: float) -> Held:
        return rules.held(server, place, max(0, int(gib * GIB)), of, block, context)

    held, most = held_by(cache_gib), held_by(most_gib)
    seeing = place.cuda and model.encoder and not has(server.args, rules.text_alone or "")
    unknown_gib = ENCODER_GIB if seeing else 0.0
    sure_gib = left_gib - unknown_gib
    sure = held_by(sure_gib) if asked_gib is None and unknown_gib else held
    return Memory(
        place=place,
        cards=cards,
        budget=room,
        weights_gib=weights_gib,
        kv_bytes_per_token=per_token,
        kv_dtype=kv_dtype,
        left_gib=left_gib,
        most_left_gib=most_left_gib,
        cache_gib=cache_gib,
        unknown_gib=unknown_gib,
        sure_tokens=sure.tokens if asked_gib is None or cache_gib <= sure_gib else 0,
        cache_tokens=min(held.tokens, server.cache_tokens or held.tokens),
        most_cache_tokens=min(most.tokens, server.cache_tokens or most.tokens),
        context_tokens=context,
        states=held.states,
        most_states=most.states,
        states_needed=rules.at_once(server, place) if held.states is not None else None,
    )


def _context_tokens(server: ServerConfig, model: Architecture) -> int:
    context = server.context_tokens or model.context_tokens
    if context is None:
        raise NotSettledError(
            "context_tokens: how long a context is by default is read in several ways of this "
            "model's rope scaling; say how long it is to be"
        )
    return context


def _check_heads(model: Architecture, cards: int) -> None:
    """As engines do when they build the layers (vLLM: models/llama.py)."""
    if model.heads % cards:
        raise UsageError(
            f"gpus: {cards} cards do not divide the model's {model.heads} attention heads evenly, "
            "which tensor parallelism needs"
        )
    shared = () if model.latent_dim else {model.kv_heads, model.global_kv_heads or model.kv_heads}
    for heads in shared:
        if heads % cards and cards % heads:
            raise UsageError(
                f"gpus: {cards} cards and the model's {heads} KV heads do not divide one another "
                "evenly, which tensor parallelism needs"
            )


def _latent_bytes(model: Architecture, kv_dtype: str) -> int | None:
    """Sparse attention over an FP8 cache has a format of its own: 512 FP8 numbers with 4 scales of
    float32, and 64 numbers of 16 bits (vLLM: fp8_ds_mla)."""
    sparse = kv_dtype.startswith("fp8") and model.index_bytes
    return SPARSE_FP8_BYTES if sparse or kv_dtype == "fp8_ds_mla" else None


def kv_bytes_per_token(model: Architecture, cards: int, value_bytes: int) -> int:
    """Bytes of a token on each card while every layer keeps it: 2 x layers x heads x head_dim x
    bytes."""
    return kept(model, cards, value_bytes, None).token_bytes


def _weights_gib(server: ServerConfig, model: Architecture, dtype: str) -> float:
    """Weights as the engine holds them: converted where it computes in another dtype, halved where
    it quantizes 16-bit weights to FP8 itself."""
    stored = BYTES.get(model.weights_dtype)
    if stored is None:
        return model.weights_gib  # quantized: held as stored
    method = value_of(server.args, "--quantization", "-q")
    if method not in (None, "fp8"):
        raise NotSettledError(
            f"args: --quantization {method} of weights that are not stored so: their size is not "
            "computed here; start the server and read 'Model loading' in its log"
        )
    if method == "fp8" and stored == 2:
        # Embedding and head stay as they are (vLLM: layers/quantization/fp8.py).
        kept = 2 * model.vocabulary * model.hidden * 2 / GIB
        return kept + max(0.0, model.weights_gib - kept) / 2
    return model.weights_gib * BYTES.get(dtype, stored) / stored


def _kv_dtype(server: ServerConfig, model: Architecture, dtype: str) -> tuple[str, int]:
    asked = value_of(server.args, "--kv-cache-dtype") or "auto"
    if asked == "auto" and model.fp8_cache:
        raise NotSettledError(
            "args: the checkpoint asks for an FP8 cache itself, which engines heed or not by their "
            "version; say --kv-cache-dtype fp8 (SGLang: fp8_e4m3), or bfloat16"
        )
    if asked == "auto":
        # As the engine computes: a checkpoint that is quantized is computed in 16 bit.
        computed = dtype if dtype in BYTES else model.weights_dtype
        return (computed, BYTES[computed]) if computed in BYTES else ("bfloat16", 2)
    if asked in ("fp8", "fp8_e4m3", "fp8_e5m2", "fp8_ds_mla"):
        return asked, 1
    if asked in BYTES or asked == "bf16":
        return asked, BYTES.get(asked, 2)
    raise NotSettledError(
        f"--kv-cache-dtype {asked}: its size per token is not known here; what is: auto, bfloat16, "
        "float16, fp8, fp8_e4m3, fp8_e5m2"
    )


def _refuse_what_is_not_computed(
    args: Sequence[str], not_computed: Mapping[str, str | None]
) -> None:
    for word in args:
        flag = word.partition("=")[0].partition(".")[0]
        names = (name for name in not_computed if fnmatchcase(flag, name))
        name = next(names, None)
        if name and (not_computed[name] is None or value_of(args, flag) != not_computed[name]):
            raise NotSettledError(
                f"args: what {flag} does to the memory is not computed here; start the server and "
                "read 'KV cache' in its log"
            )
