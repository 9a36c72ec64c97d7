"""vLLM: what it does with the memory of a card, as of 0.32 (pure).

How much it may use is its own rule. What it keeps for itself it measures when it starts: an
estimate here.
"""

from __future__ import annotations

from aot.configs.schema.hardware import Architecture
from aot.configs.schema.server import ServerConfig
from aot.configs.schema.variables import plain
from aot.serving.engines.flags import count_of, has, number_of, share_of
from aot.serving.engines.memory_budget import GIB, Budget, Place

CONTEXT_GIB = 0.25
GRAPHS_GIB = 2.4
"""vLLM takes CUDA graphs off the cache since 0.21. Logged were 0.5 (Qwen2-7B, 0.10) to 2.44 GiB
(Qwen3-8B, 0.19): the most is kept free. Sources: tests/serving/test_memory.py."""
CPU_CACHE = "VLLM_CPU_KVCACHE_SPACE"
"""GiB; read on a CPU."""
SMALLER_BATCH = ("--max-num-batched-tokens", "2048", "--max-num-seqs", "256")


def budget(server: ServerConfig, model: Architecture, place: Place, cards: int) -> Budget:
    share = share_of(server.args, "--gpu-memory-utilization", "--device-memory-utilization") or 0.92
    usable = share * place.memory_gib
    why = f"{share:g} of the memory (--gpu-memory-utilization)"
    if server.cache_gib:  # then vLLM does not ask for a share
        usable, why = place.memory_gib, "all of the memory: cache_gib sets the cache"
    if not place.cuda:
        return Budget(usable, why, 0.5, "estimate: the program itself, and activations")
    batch, requests = _batch(place)
    batch = count_of(server.args, "--max-num-batched-tokens") or batch
    requests = count_of(server.args, "--max-num-seqs") or requests
    graphs_gib = 0.0 if has(server.args, "--enforce-eager") else GRAPHS_GIB
    reserve = CONTEXT_GIB + graphs_gib + _peak_gib(model, batch, requests, cards)
    words = f"activations of {batch:,} tokens or {requests:,} requests"
    words = f"estimate: {words}, and CUDA graphs of {graphs_gib:g} GiB"
    return Budget(usable, why, reserve, words)


def _batch(place: Place) -> tuple[int, int]:
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


def asked_gib(server: ServerConfig, token_bytes: int, block_tokens: int) -> float | None:
    """The cache that the server file asks for; None where vLLM takes what is left."""
    if server.cache_gib:
        return server.cache_gib
    if CPU_CACHE in (env := plain(server.env)):
        return number_of([CPU_CACHE, env[CPU_CACHE]], CPU_CACHE)
    if server.cache_tokens:
        return server.cache_tokens * token_bytes / GIB
    blocks = count_of(server.args, "--num-gpu-blocks-override")
    return blocks * block_tokens * token_bytes / GIB if blocks else None
