"""SGLang: what it does with the memory of a card, as of 0.5.23 (pure)."""

from __future__ import annotations

from aot.configs.kernel.errors import NotSettledError
from aot.configs.schema.hardware import Architecture
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.card.budget import GIB, Budget, Place, layer_gib
from aot.serving.engines.card.pools import STATE_RATIO, SWA_RATIO, Held, Kept, in_pools
from aot.serving.engines.engine import MemoryRules
from aot.serving.engines.flags import count_of, has, number_of, share_of, value_of

NOT_COMPUTED: dict[str, str | None] = {
    **dict.fromkeys(
        ("--pipeline-parallel-size", "--pp-size", "--data-parallel-size", "--dp-size",
         "--expert-parallel-size", "--ep-*", "--ep", "--decode-context-parallel-size",
         "--dcp-size", "--attention-context-parallel-size", "--attn-cp-size", "--nnodes"),
        "1",
    ),
    "--cpu-offload-gb": "0",
    **dict.fromkeys(
        ("--enable-dp-attention", "--moe-dense-tp-size", "--moe-data-parallel-size",
         "--moe-dp-size", "--attention-data-parallel-size", "--attn-dp-size", "--dwdp-size",
         "--shared-experts-tp-size", "--offload-*", "--ple-offload-*", "--speculative-*",
         "--enable-lora", "--lora-paths", "--uno-lora-path", "--json-model-override-args",
         "--config", "--kt-*", "--disable-hybrid-swa-memory", "--mamba-ssm-dtype",
         "--max-mamba-cache-size", "--mamba-radix-cache-strategy",
         "--enable-int8-mamba-checkpoint", "--enable-unified-memory", "--enable-kv-cache-sharding",
         "--enable-dsa-cache-layer-split", "--disaggregation-mode", "--enable-two-batch-overlap",
         "--enable-pdmux", "--enable-paged-experts", "--prefill-only-disable-kv-cache",
         "--encoder-only", "--is-embedding", "--dllm-algorithm", "--enable-hisparse",
         "--enable-multi-layer-eagle", "--quantize-and-serve", "--modelopt-quant")
    ),
}  # fmt: skip


def budget(server: ServerConfig, model: Architecture, place: Place, cards: int) -> Budget:
    """SGLang's own rule (0.5.23: arg_groups/memory_hook.py, handle_gpu_memory_settings), and a
    fixed GiB for context and libraries, which it takes off by measuring free memory."""
    total = place.memory_gib
    share = share_of(server.args, "--mem-fraction-static")
    if not place.cuda:
        share = share or 0.9
        return Budget(share * total, f"{share:g} of the memory", 0.5, "estimate", 0.5)
    if share is not None:
        _check_outside(server, model, total, cards, (1 - share) * total)
    else:
        share = round((total - _reserve_mib(server, total, cards) / 1024) / total, 3)
    why = f"{share:g} of the memory (--mem-fraction-static, for weights and cache)"
    return Budget(share * total, why, 0.5, "estimate: CUDA context; activations are outside", 0.5)


def _check_outside(
    server: ServerConfig, model: Architecture, total: float, cards: int, outside_gib: float
) -> None:
    """NotSettledError where a share that is given leaves less than the widest point of a layer
    takes."""
    chunk = count_of(server.args, "--chunked-prefill-size") or _batch(total, cards)[0]
    needed_gib = 0.5 + layer_gib(model, chunk, cards)
    if outside_gib < needed_gib:
        raise NotSettledError(
            f"args: --mem-fraction-static leaves {outside_gib:.1f} GiB for CUDA's own context and "
            f"activations, and a prefill of {chunk:,} tokens may take {needed_gib:.1f}; start it, "
            "or leave the share to SGLang"
        )


def _reserve_mib(server: ServerConfig, total_gib: float, cards: int) -> float:
    chunk, graphs = _batch(total_gib, cards)
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


def _batch(memory_gib: float, cards: int) -> tuple[int, int]:
    """Defaults of chunked_prefill_size and of the largest CUDA graph, by the card."""
    few = cards < 4
    for below_gib, chunk, graphs in ((20, 2048, 8), (35, 4096, 48), (60, 4096, 32)):
        if memory_gib < below_gib:
            return chunk, graphs if few or below_gib == 20 else 160
    return (8192, 256 if few else 512) if memory_gib < 160 else (16384, 512)


def asked_gib(server: ServerConfig, token_bytes: int, _block_tokens: int) -> float | None:
    """The cache that the server file asks for; None where SGLang takes what is left."""
    return server.cache_tokens * token_bytes / GIB if server.cache_tokens else None


def held(
    server: ServerConfig, _place: Place, cache: int, of: Kept, page: int, _context: int
) -> Held:
    """By its own shares of the pools (0.5.23: model_executor/model_runner_kv_cache_mixin.py)."""
    swa = number_of(server.args, "--swa-full-tokens-ratio") or SWA_RATIO
    states = number_of(server.args, "--mamba-full-memory-ratio") or STATE_RATIO
    return in_pools(cache, of, page, swa, states)


RULES = MemoryRules(
    budget,
    asked_gib,
    takes_what_there_is=True,
    fp8_cache="fp8_e4m3",
    smaller_batch=(),
    held=held,
    not_computed=NOT_COMPUTED,
    text_alone="--language-model-only",
)
