"""vLLM: what it does with the memory of a card, as of 0.32 (pure).

How much it may use is its own rule. What it keeps for itself it measures when it starts: an
estimate here.
"""

from __future__ import annotations

from aot.configs.kernel.errors import NotSettledError
from aot.configs.schema.hardware import Architecture
from aot.configs.schema.server import ServerConfig
from aot.configs.schema.variables import plain
from aot.serving.engines.card.budget import GIB, Budget, Place, layer_gib
from aot.serving.engines.card.pools import Held, Kept, in_blocks, in_full
from aot.serving.engines.engine import MemoryRules
from aot.serving.engines.flags import count_of, has, number_of, share_of, value_of

CONTEXT_GIB = {1: (0.07, 0.25), 2: (0.15, 0.6)}
"""Least and most of libraries, and of NCCL among cards, by their number, as logged."""
CONTEXT_OF_MORE_GIB = (0.2, 1.0)
GRAPHS_GIB = (0.0, 1.2)
"""CUDA graphs, which vLLM takes off the cache since 0.21, and its new runner does not: 0.30 to 1.11
on one card."""
SAMPLER_BYTES = (16.0, 38.6)
"""A request and word of the vocabulary, at the sampler's widest point, by its kernel: 38.6 gives
the 4.76 (Llama-3.1-8B), 5.64 (Qwen3-32B) and 7.38 GiB (gpt-oss) that 0.11 logged for 1,024
requests, and what 0.29 and 0.31 logged for 256; 16 what 0.15 and 0.19 logged."""
SAMPLED = (256, 1024)
"""Requests that the sampler is tried with, at most: the new runner's, the old one's. All numbers
are from tests/serving/published.json."""
IN_FLIGHT = 2
"""Batches that are scheduled and not settled (config/vllm.py, max_concurrent_batches)."""
CPU_CACHE = "VLLM_CPU_KVCACHE_SPACE"
"""GiB; read on a CPU."""
NOT_COMPUTED: dict[str, str | None] = {
    **dict.fromkeys(
        ("--pipeline-parallel-size", "-pp", "--data-parallel-size*", "-dp", "-dpl",
         "--prefill-context-parallel-size", "-pcp", "--decode-context-parallel-size", "-dcp",
         "--nnodes", "-n"),
        "1",
    ),
    "--cpu-offload-*": "0",
    **dict.fromkeys(
        ("--enable-expert-parallel", "-ep", "--enable-eplb", "--enable-elastic-ep", "--enable-dbo",
         "--ubatch-size", "--offload-*", "--speculative-config", "-sc", "--spec-*",
         "--enable-lora", "--config", "--mamba-ssm-cache-dtype", "--mamba-cache-*",
         "--mamba-block-size", "--use-replayssm", "--hf-overrides", "--hf-config-path",
         "--model-class-overrides", "--quantization-config", "--kv-cache-dtype-skip-layers",
         "--kv-sharing-fast-prefill", "--disable-sliding-window", "--swa-bounded-replay",
         "--prefix-cache-retention-interval", "--convert", "--runner", "--diffusion-config", "-dc",
         "--engram-config")
    ),
}  # fmt: skip
LEFT_FREE_GIB = 0.5
"""Of a card by CUDA's own context: vLLM refuses a share that is more than what is free."""
SMALLER_BATCH = ("--max-num-batched-tokens", "2048", "--max-num-seqs", "256")


def budget(server: ServerConfig, model: Architecture, place: Place, cards: int) -> Budget:
    share = share_of(server.args, "--gpu-memory-utilization", "--device-memory-utilization") or 0.92
    usable = share * place.memory_gib
    if place.cuda and not server.cache_gib and usable > place.memory_gib - LEFT_FREE_GIB:
        raise NotSettledError(
            f"args: --gpu-memory-utilization {share:g} may be more than what is free beside CUDA's "
            f"own context on {place.name}; leave it some {LEFT_FREE_GIB:g} GiB, or start it and see"
        )
    why = f"{share:g} of the memory (--gpu-memory-utilization)"
    if server.cache_gib:  # then vLLM does not ask for a share
        usable, why = place.memory_gib, "all of the memory: cache_gib sets the cache"
    if not place.cuda:
        return Budget(usable, why, 0.5, "estimate: the program itself, and activations", 0.5)
    batch, requests = _planned(server, place)
    graphs = (0.0, 0.0) if has(server.args, "--enforce-eager") else GRAPHS_GIB
    context = CONTEXT_GIB.get(cards, CONTEXT_OF_MORE_GIB)
    least, most = (
        context[n] + graphs[n] + _peak_gib(model, batch, min(requests, SAMPLED[n]), cards, n)
        for n in (0, 1)
    )
    words = f"activations of {batch:,} tokens or {requests:,} requests"
    words = f"the most that was logged: {words}, and CUDA graphs; the least is {least:.1f}"
    return Budget(usable, why, most, words, least)


def _planned(server: ServerConfig, place: Place) -> tuple[int, int]:
    """Batched tokens and requests, as given or by default."""
    batch, requests = _batch(place)
    batch = count_of(server.args, "--max-num-batched-tokens") or batch
    if has(server.args, "--no-enable-chunked-prefill"):  # a prompt is one batch
        batch = max(batch, server.context_tokens or 0)
    return batch, count_of(server.args, "--max-num-seqs") or requests


def at_once(server: ServerConfig, place: Place) -> int | None:
    """Requests of the largest CUDA graph: a state each, or it does not start."""
    return None if has(server.args, "--enforce-eager") else _planned(server, place)[1]


def held(
    server: ServerConfig, place: Place, cache: int, of: Kept, block: int, context: int
) -> Held:
    """As it prints it. Without its manager of several kinds, as beside LMCache, layers with a
    window keep every token."""
    batch, _ = _planned(server, place)
    if of.is_plain:
        return in_full(cache, of, block)
    if has(server.args, "--disable-hybrid-kv-cache-manager") or server.store:
        if of.model.state_layers:
            raise NotSettledError("store: whether vLLM has states beside it is not known here")
        return in_full(cache, of, block)
    if value_of(server.args, "--kv-transfer-config"):
        raise NotSettledError(
            "args: what layers with a window or a state keep beside the connector of "
            "--kv-transfer-config is not known here; start it and read 'KV cache' in its log"
        )
    return in_blocks(cache, of, block, context, IN_FLIGHT * batch)


def _batch(place: Place) -> tuple[int, int]:
    """Defaults of max_num_batched_tokens and max_num_seqs of the API server, by the card (vLLM
    0.32: engine/arg_utils.py, get_batch_defaults)."""
    if place.memory_gib >= 160:
        return 16384, 1024
    if place.memory_gib >= 70 and "a100" not in place.name.lower():
        return 8192, 1024
    return 2048, 256


def _peak_gib(model: Architecture, batch: int, requests: int, cards: int, most: int) -> float:
    """An estimate of what vLLM's profile run finds: the widest point of a layer, or the sampler
    over all logits, whichever is more."""
    sampler_gib = requests * model.vocabulary * SAMPLER_BYTES[most] / GIB
    return max(layer_gib(model, batch, cards) if most else 0.0, sampler_gib)


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


RULES = MemoryRules(
    budget,
    asked_gib,
    takes_what_there_is=False,
    fp8_cache="fp8",
    smaller_batch=SMALLER_BATCH,
    held=held,
    at_once=at_once,
    not_computed=NOT_COMPUTED,
    text_alone="--language-model-only",
)
