"""What a server needs of a card's memory, and what is left for the KV cache (pure).

weights + reserve + KV cache = what the engine may use. The weights and the bytes per token follow
from the model; how much the engine may use, and SGLang's reserve, are the engines' own rules;
vLLM's reserve is measured by vLLM when it starts, and an estimate here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from configs.architecture import Architecture
from configs.card import Card
from configs.errors import UsageError
from configs.server import ServerConfig
from serving.flags import value_of
from serving.vllm import DEFAULT_BLOCK

GIB = 2**30
CONTEXT_GIB = 0.25
GRAPHS_GIB = 2.4
"""vLLM takes CUDA graphs off the cache since 0.21. Logged were 0.5 (Qwen2-7B, 0.10) to 2.44 GiB
(Qwen3-8B, 0.19): the most is kept free. Sources: tests/serving/test_memory.py."""
BYTES = {"float32": 4, "float": 4, "bfloat16": 2, "float16": 2, "half": 2}


@dataclass(frozen=True, slots=True)
class Place:
    """What the engine runs on: a kind of card, or the memory of a machine without one."""

    name: str
    memory_gib: float
    cuda: bool
    fp8: bool = False


@dataclass(frozen=True, slots=True)
class Budget:
    """What an engine does with the memory of one card. GiB."""

    usable_gib: float
    usable_why: str
    reserve_gib: float
    reserve_why: str


@dataclass(frozen=True, slots=True)
class Memory:
    """The memory of one card of a replica. `cache_gib` can be negative: then nothing is left."""

    place: Place
    cards: int
    budget: Budget
    weights_gib: float
    kv_bytes_per_token: int
    """On each card: heads are divided among cards."""
    kv_dtype: str
    left_gib: float
    """What weights and reserve leave."""
    cache_gib: float
    """What the cache gets: what is left, or what the server file asks for."""
    cache_tokens: int
    """The whole cache, in tokens of one replica."""
    context_tokens: int

    @property
    def fits(self) -> bool:
        """Whether it starts: the cache is paid for, and holds the longest prompt."""
        return 0 < self.cache_gib <= self.left_gib and self.cache_tokens >= self.context_tokens


def card_as_place(name: str, card: Card) -> Place:
    return Place(name, card.memory_gib, cuda=True, fp8=card.fp8)


def memory_of(server: ServerConfig, model: Architecture, place: Place, dtype: str) -> Memory:
    """The memory of `server` with `model` on `place`. `dtype`: what the engine computes in.

    Raises UsageError for what cannot be computed: a KV dtype of unknown size, numbers that are
    none, weights split in other ways than by tensor parallelism.
    """
    _refuse_other_splits(server.args)
    cards = cards_of(server)
    weights_gib = _weights_gib(server, model, dtype) / cards
    kv_dtype, kv_bytes = _kv_dtype(server, model, dtype)
    per_token = kv_bytes_per_token(model, cards, kv_bytes)
    budget = _BUDGETS[server.engine](server, model, place, cards)
    left_gib = budget.usable_gib - weights_gib - budget.reserve_gib
    asked_gib = _asked_gib(server, per_token)
    cache_gib = left_gib if asked_gib is None else asked_gib
    block = server.block_tokens or _default_block(server.engine, place)
    tokens = max(0, int(cache_gib * GIB / per_token) // block * block)
    return Memory(
        place=place,
        cards=cards,
        budget=budget,
        weights_gib=weights_gib,
        kv_bytes_per_token=per_token,
        kv_dtype=kv_dtype,
        left_gib=left_gib,
        cache_gib=cache_gib,
        cache_tokens=min(tokens, server.cache_tokens or tokens),
        context_tokens=server.context_tokens or model.context_tokens,
    )


def cards_of(server: ServerConfig) -> int:
    """Cards of one replica."""
    flags = ("--tensor-parallel-size", "-tp", "--tp-size", "--tp")
    return server.gpus or _count(server.args, *flags) or 1


def kv_bytes_per_token(model: Architecture, cards: int, value_bytes: int) -> int:
    """Bytes of a token's keys and values on each card: 2 x layers x heads x head_dim x bytes.

    Heads are divided among cards, and copied where there are more cards than heads; the latent
    of multi-head latent attention is on every card. Layers with a sliding window count in full:
    both engines hold their blocks as long as there is room.
    """
    if model.latent_dim:
        return model.layers * model.latent_dim * value_bytes
    heads = max(1, -(-model.kv_heads // cards))
    return 2 * model.layers * heads * model.head_dim * value_bytes


def _default_block(engine: str, place: Place) -> int:
    return DEFAULT_BLOCK["cuda" if place.cuda else "cpu"] if engine == "vllm" else 1


def _weights_gib(server: ServerConfig, model: Architecture, dtype: str) -> float:
    """Weights as the engine holds them: converted where it computes in another dtype, halved where
    it quantizes 16-bit weights to FP8 itself."""
    stored = BYTES.get(model.weights_dtype)
    if stored is None:
        return model.weights_gib  # quantized: held as stored
    if value_of(server.args, "--quantization", "-q") == "fp8" and stored == 2:
        # Embedding and head stay as they are (vLLM: layers/quantization/fp8.py).
        kept = 2 * model.vocabulary * model.hidden * 2 / GIB
        return kept + max(0.0, model.weights_gib - kept) / 2
    return model.weights_gib * BYTES.get(dtype, stored) / stored


def _kv_dtype(server: ServerConfig, model: Architecture, dtype: str) -> tuple[str, int]:
    asked = value_of(server.args, "--kv-cache-dtype") or "auto"
    if asked == "auto":
        # As the engine computes: a checkpoint that is quantized is computed in 16 bit.
        computed = dtype if dtype in BYTES else model.weights_dtype
        return (computed, BYTES[computed]) if computed in BYTES else ("bfloat16", 2)
    if asked.startswith("fp8"):
        return asked, 1
    if asked in BYTES or asked == "bf16":
        return asked, BYTES.get(asked, 2)
    raise UsageError(
        f"--kv-cache-dtype {asked}: its size per token is not known here; what is: auto, bfloat16, "
        "float16, fp8, fp8_e4m3, fp8_e5m2"
    )


def _asked_gib(server: ServerConfig, per_token: int) -> float | None:
    """The cache that the server file asks for; None where the engine takes what is left."""
    if server.cache_gib:
        return server.cache_gib
    if server.cache_tokens:
        return server.cache_tokens * per_token / GIB
    return None


def _vllm(server: ServerConfig, model: Architecture, place: Place, cards: int) -> Budget:
    share = _number(server.args, "--gpu-memory-utilization", "--device-memory-utilization") or 0.92
    usable = share * place.memory_gib
    why = f"{share:g} of the memory (--gpu-memory-utilization)"
    if server.cache_gib:  # then vLLM does not ask for a share
        usable, why = place.memory_gib, "all of the memory: cache_gib sets the cache"
    if not place.cuda:
        return Budget(usable, why, 0.5, "estimate: the program itself, and activations")
    batch, requests = _vllm_batch(place)
    batch = _count(server.args, "--max-num-batched-tokens") or batch
    requests = _count(server.args, "--max-num-seqs") or requests
    graphs_gib = 0.0 if "--enforce-eager" in server.args else GRAPHS_GIB
    reserve = CONTEXT_GIB + graphs_gib + _peak_gib(model, batch, requests, cards)
    words = f"activations of {batch:,} tokens or {requests:,} requests"
    words = f"estimate: {words}, and CUDA graphs of {graphs_gib:g} GiB"
    return Budget(usable, why, reserve, words)


def _vllm_batch(place: Place) -> tuple[int, int]:
    """Defaults of max_num_batched_tokens and max_num_seqs of the API server, by the card (vLLM
    0.32: engine/arg_utils.py, get_batch_defaults)."""
    if place.memory_gib >= 160:
        return 16384, 1024
    if place.memory_gib >= 70 and "a100" not in place.name.lower():
        return 8192, 1024
    return 2048, 256


def _peak_gib(model: Architecture, batch: int, requests: int, cards: int) -> float:
    """An estimate of what vLLM's profile run finds, 16-bit activations: the widest point of a
    layer, or the sampler over all logits (float32, sorted with their indices: 16 bytes each),
    whichever is more. The first term gives the 1.25 GiB that vLLM logged for Llama-3-8B and 8,192
    tokens as 1.26 (vllm-project/vllm#10511)."""
    layer = batch * (4 * model.intermediate / cards + 6 * model.hidden) * 2
    sampler = requests * model.vocabulary * 16
    return max(layer, sampler) / GIB


def _sglang(server: ServerConfig, _model: Architecture, place: Place, cards: int) -> Budget:
    """SGLang's own rule (0.5.23: arg_groups/memory_hook.py, handle_gpu_memory_settings), and a
    fixed GiB for context and libraries, which it takes off by measuring free memory."""
    total = place.memory_gib
    share = _number(server.args, "--mem-fraction-static")
    if not place.cuda:
        share = share or 0.9
        return Budget(share * total, f"{share:g} of the memory", 0.5, "estimate")
    if share is None:
        chunk, graphs = _sglang_batch(total, cards)
        chunk = _count(server.args, "--chunked-prefill-size") or chunk
        graphs = _count(server.args, "--cuda-graph-max-bs") or graphs
        away_mib = 512 + 1.5 * max(chunk, 2048) + cards / 8 * 1024 + 2 * graphs
        away_mib = max(away_mib, 10 * 1024) if total > 60 else away_mib
        share = round((total - away_mib / 1024) / total, 3)
    why = f"{share:g} of the memory (--mem-fraction-static, for weights and cache)"
    return Budget(share * total, why, 0.5, "estimate: CUDA context; activations are outside")


def _sglang_batch(memory_gib: float, cards: int) -> tuple[int, int]:
    """Defaults of chunked_prefill_size and of the largest CUDA graph, by the card."""
    few = cards < 4
    for below_gib, chunk, graphs in ((20, 2048, 8), (35, 4096, 48), (60, 4096, 32)):
        if memory_gib < below_gib:
            return chunk, graphs if few or below_gib == 20 else 160
    return (8192, 256 if few else 512) if memory_gib < 160 else (16384, 512)


_BUDGETS = {"vllm": _vllm, "sglang": _sglang}


def _number(args: Sequence[str], *flags: str) -> float | None:
    raw = value_of(args, *flags)
    if raw is None:
        return None
    try:
        return float(raw)
    except ValueError:
        raise UsageError(f"args: {flags[0]} {raw} is no number") from None


def _count(args: Sequence[str], *flags: str) -> int | None:
    found = _number(args, *flags)
    return None if found is None else int(found)


OTHER_SPLITS = (
    "--pipeline-parallel-size",
    "-pp",
    "--pp-size",
    "--cpu-offload-gb",
    "--enable-expert-parallel",
    "--ep-size",
    "--ep",
    "--dp-size",
    "--data-parallel-size",
)


def _refuse_other_splits(args: Sequence[str]) -> None:
    for flag in OTHER_SPLITS:
        if value_of(args, flag) is not None or flag in args:
            raise UsageError(
                f"args: {flag} divides the weights in a way that is not computed here; start the "
                "server and read 'KV cache' in its log"
            )
