"""vLLM: how it is run in containers, watched and tuned."""

from __future__ import annotations

import json
from collections.abc import Sequence

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.settings import Value
from aot.configs.schema.recipe import Device
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.engine import Packaging, Tuning, Watched
from aot.serving.engines.flags import canonical, count_of, number_of, value_of

WATCHED = Watched(
    hits="vllm:prefix_cache_hits_total",
    hits_beyond="vllm:external_prefix_cache_hits_total",
    lookups="vllm:prefix_cache_queries_total",
    computed='vllm:prompt_tokens_by_source_total{source="local_compute"}',
    ttft="vllm:time_to_first_token_seconds",
    ttft_bounds_s=(
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
        10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
    ),
    running="vllm:num_requests_running",
    waiting="vllm:num_requests_waiting",
    kv_usage="vllm:kv_cache_usage_perc",
    output="vllm:generation_tokens_total",
    preemptions="vllm:num_preemptions_total",
    # With --kv-cache-metrics, of one block in a hundred: how long evicted blocks had been idle.
    kept_s=(
        "histogram_quantile(0.5, sum by (le, namespace, job, instance) "
        "(rate(vllm:kv_block_idle_before_evict_seconds_bucket[15m]))) "
        "and on (namespace, job, instance) (sum by (namespace, job, instance) "
        '(increase(vllm:kv_block_idle_before_evict_seconds_bucket{le="+Inf"}[15m])) >= 10)'
    ),
)  # fmt: skip


def _usual_settings(server: ServerConfig, device: Device) -> list[tuple[str, list[Value]]]:
    """Block size, cache size, batched tokens, chunked prefill."""
    blocks: list[Value] = [32, 64, 128] if device == "cpu" else [16, 32, 64, 128]
    gib: list[Value] = [2 * server.cache_gib] if server.cache_gib else []
    batched: list[Value] = [512, 2048, max(8192, server.context_tokens or 4096)]
    off: list[Value] = [False]
    tried = [("block_size", blocks), ("server.cache_gib", gib), ("batched_tokens", batched)]
    return [(name, values) for name, values in [*tried, ("chunked_prefill", off)] if values]


def _host_tier_gib(server: ServerConfig) -> float:
    """Of all cards together: a tier of the cache, and weights that stay on the host."""
    args = canonical(server.args, "vllm")
    tier = server.host_cache_gib or number_of(args, "--kv-offloading-size") or _connected_gib(args)
    weights = server.cards * _more_cards(args) * (number_of(args, "--cpu-offload-gb") or 0.0)
    return _copies(args) * tier + weights


def _connected_gib(args: Sequence[str]) -> float:
    """Of vLLM's own OffloadingConnector, where the file names one."""
    try:
        config = json.loads(value_of(args, "--kv-transfer-config") or "{}")
        return float(config["kv_connector_extra_config"]["cpu_bytes_to_use"]) / 2**30
    except (ValueError, KeyError, TypeError):
        return 0.0


def _more_cards(args: Sequence[str]) -> int:
    """Pipelines, copies, and parts of a prompt have cards of their own."""
    pipeline = count_of(args, "--pipeline-parallel-size", "-pp") or 1
    parts = count_of(args, "--prefill-context-parallel-size", "-pcp") or 1
    return pipeline * parts * _copies(args)


def check_one_copy(args: Sequence[str]) -> None:
    """UsageError for several, which would publish on one another's ports."""
    if (copies := _copies(canonical(args, "vllm"))) > 1:
        raise UsageError(
            f"kv_events is one endpoint, and each of {copies} copies (--data-parallel-size) would "
            "need its own"
        )


def _copies(args: Sequence[str]) -> int:
    """On one machine: each is an engine of its own."""
    here = count_of(args, "--data-parallel-size-local", "-dpl")
    return here or count_of(args, "--data-parallel-size", "-dp") or 1


PACKAGING = Packaging(
    # Official images: docs/deployment/docker.md of vLLM.
    images={
        "cuda": "vllm/vllm-openai:v{version}",
        "cpu": "vllm/vllm-openai-cpu:v{version}-x86_64",
    },
    command=lambda argv, _: (("vllm", *argv[1:]), {}),
    waiting_metric="vllm:num_requests_waiting",
    key_variable="VLLM_API_KEY",
    charts=frozenset({"production-stack", "llm-d"}),
    more_cards=_more_cards,
    with_stores=frozenset({"cuda"}),  # LMCache: requirements/kv_connectors.txt of vLLM
    user=2000,  # "vllm" (vllm-project/vllm#40275)
    drain=lambda seconds: ("--shutdown-timeout", str(seconds)),  # its default aborts what runs
    watched_with=("--kv-cache-metrics",),
    host_tier_gib=_host_tier_gib,
    caches={"VLLM_CACHE_ROOT": "vllm"},
)
TUNING = Tuning(
    {
        "batched_tokens": "--max-num-batched-tokens",
        "chunked_prefill": "--enable-chunked-prefill",
    },
    _usual_settings,
)
REMEDIES = {
    "off": "start it without --no-enable-prefix-caching; some models turn it off themselves, and "
    "its log says so",
    "unreported": "start it with --enable-prompt-tokens-details",
    "no-metrics": "start it without --disable-log-stats, and let /metrics through to here",
    "small-cache": "give the cache more memory (--gpu-memory-utilization, "
    "--kv-cache-memory-bytes), fewer bytes a token (--kv-cache-dtype fp8), more cards, or a host "
    "tier (--kv-offloading-size)",
    "below-a-block": "smaller blocks: --block-size 16 (on a CPU 32)",
    "queue": "more replicas, a lower rate, or let more run at once (--max-num-seqs)",
}
