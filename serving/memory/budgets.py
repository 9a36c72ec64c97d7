"""How much of a card's memory an engine uses, and what of it is not for weights and cache (pure).

How much it may use, and SGLang's reserve, are the engines' own rules. vLLM's reserve is measured by
vLLM when it starts, and an estimate here.
"""

from __future__ import annotations

from dataclasses import dataclass

from aot.configs.schema.architecture import Architecture
from aot.configs.schema.card import Card
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.flags import count_of, has, share_of, value_of

GIB = 2**30
CONTEXT_GIB = 0.25
GRAPHS_GIB = 2.4
"""vLLM takes CUDA graphs off the cache since 0.21. Logged were 0.5 (Qwen2-7B, 0.10) to 2.44 GiB
(Qwen3-8B, 0.19): the most is kept free. Sources: tests/serving/test_memory.py."""


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


def card_as_place(name: str, card: Card) -> Place:
    return Place(name, card.memory_gib, cuda=True, fp8=card.fp8)


def budget(server: ServerConfig, model: Architecture, place: Place, cards: int) -> Budget:
    """What the engine of `server` does with the memory of one of `cards` cards.

    Raises UsageError for arguments that should be numbers and are not.
    """
    return _BUDGETS[server.engine](server, model, place, cards)


def _vllm(server: ServerConfig, model: Architecture, place: Place, cards: int) -> Budget:
    share = share_of(server.args, "--gpu-memory-utilization", "--device-memory-utilization") or 0.92
    usable = share * place.memory_gib
    why = f"{share:g} of the memory (--gpu-memory-utilization)"
    if server.cache_gib:  # then vLLM does not ask for a share
        usable, why = place.memory_gib, "all of the memory: cache_gib sets the cache"
    if not place.cuda:
        return Budget(usable, why, 0.5, "estimate: the program itself, and activations")
    batch, requests = _vllm_batch(place)
    batch = count_of(server.args, "--max-num-batched-tokens") or batch
    requests = count_of(server.args, "--max-num-seqs") or requests
    graphs_gib = 0.0 if has(server.args, "--enforce-eager") else GRAPHS_GIB
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
    share = share_of(server.args, "--mem-fraction-static")
    if not place.cuda:
        share = share or 0.9
        return Budget(share * total, f"{share:g} of the memory", 0.5, "estimate")
    if share is None:
        share = round((total - _sglang_reserve_mib(server, total, cards) / 1024) / total, 3)
    why = f"{share:g} of the memory (--mem-fraction-static, for weights and cache)"
    return Budget(share * total, why, 0.5, "estimate: CUDA context; activations are outside")


def _sglang_reserve_mib(server: ServerConfig, total_gib: float, cards: int) -> float:
    chunk, graphs = _sglang_batch(total_gib, cards)
    if value_of(server.args, "--chunked-prefill-size") == "-1":  # not chunked
        chunk = count_of(server.args, "--max-prefill-tokens") or 16384
    else:
        chunk = count_of(server.args, "--chunked-prefill-size") or chunk
    graphs = min(graphs, count_of(server.args, "--max-running-requests") or graphs)
    graphs = count_of(server.args, "--cuda-graph-max-bs-decode") or graphs
    captured = 2 * graphs + 8 * _prefill_graphs(chunk)
    captured = 0 if has(server.args, "--disable-cuda-graph") else captured
    away = 512 + 1.5 * max(chunk, 2048) + cards / 8 * 1024 + captured
    return max(away, 10 * 1024) if total_gib > 60 else away


def _prefill_graphs(tokens: int) -> int:
    """How many sizes are captured up to `tokens` (generate_prefill_cuda_graph_batch_sizes)."""
    steps = ((4, 33, 4), (48, 257, 16), (288, 513, 32), (576, 1025, 64), (1280, 4097, 256))
    sizes = [size for step in steps for size in range(*step)] + list(range(4608, tokens + 1, 512))
    return sum(size <= tokens for size in sizes)


def _sglang_batch(memory_gib: float, cards: int) -> tuple[int, int]:
    """Defaults of chunked_prefill_size and of the largest CUDA graph, by the card."""
    few = cards < 4
    for below_gib, chunk, graphs in ((20, 2048, 8), (35, 4096, 48), (60, 4096, 32)):
        if memory_gib < below_gib:
            return chunk, graphs if few or below_gib == 20 else 160
    return (8192, 256 if few else 512) if memory_gib < 160 else (16384, 512)


_BUDGETS = {"vllm": _vllm, "sglang": _sglang}
