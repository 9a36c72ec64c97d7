"""SGLang: how it is run in containers, watched and tuned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from aot.configs.kernel.errors import UsageError
from aot.configs.loading.settings import Value
from aot.configs.schema.recipe import Device
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.engine import Packaging, Tuning, Watched
from aot.serving.engines.flags import canonical, count_of, has, number_of

KEY_VARIABLE = "AOT_SGLANG_API_KEY"
LAUNCHER_INSIDE = PurePosixPath("/aot/sglang_server.py")
LAUNCHER = Path(__file__).parents[1] / "in_engine" / "sglang_server.py"

WATCHED = Watched(
    hits='sglang:realtime_tokens_total{mode="prefill_cache"}',
    lookups='sglang:realtime_tokens_total{mode=~"prefill_.*"}',
    computed='sglang:realtime_tokens_total{mode="prefill_compute"}',
    ttft="sglang:time_to_first_token_seconds",
    ttft_bounds_s=(
        0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0,
        200.0, 400.0,
    ),
    running="sglang:num_running_reqs",
    waiting="sglang:num_queue_reqs",
    kv_usage="sglang:token_usage",
    output="sglang:generation_tokens_total",
    preemptions="sglang:num_retracted_requests_total",
    # Capacity over what is evicted of it.
    kept_s=(
        "sum by (namespace, job, instance) (sglang:max_total_num_tokens) / "
        "(sum by (namespace, job, instance) (rate(sglang:evicted_tokens_total[15m])) > 0)"
    ),
)  # fmt: skip


def _usual_settings(server: ServerConfig, _device: Device) -> list[tuple[str, list[Value]]]:
    """Page size, cache size, batched tokens, scheduling policy."""
    pages: list[Value] = [1, 16, 64]
    sizes: list[Value] = [2 * server.cache_tokens] if server.cache_tokens else []
    batched: list[Value] = [512, 2048, max(8192, server.context_tokens or 4096)]
    policies: list[Value] = ["fcfs", "lpm"]
    tried = [("block_size", pages), ("cache_size", sizes), ("batched_tokens", batched)]
    tried.append(("server.schedule_policy", policies))
    return [(name, values) for name, values in tried if values]


def _in_container(
    argv: Sequence[str], has_key: bool
) -> tuple[tuple[str, ...], dict[PurePosixPath, Path]]:
    if not has_key:
        return ("python3", "-m", "sglang.launch_server", *argv[2:]), {}
    # SGLang takes a key as an argument only: our launcher reads it from a variable instead.
    return ("python3", str(LAUNCHER_INSIDE), *argv[2:]), {LAUNCHER_INSIDE: LAUNCHER}


def _host_tier_gib(server: ServerConfig) -> float:
    """Of all cards together: hicache has a pool for each rank, and weights stay on the host by
    card."""
    args = canonical(server.args, "sglang")
    more = _more_cards(args)
    weights = server.cards * more * (number_of(args, "--cpu-offload-gb") or 0.0)
    tiers = server.hicache
    if server.host_cache_gib or tiers is None:
        return more * (server.host_cache_gib or 0.0) + weights
    if tiers.size_gb is None:
        raise UsageError(
            "hicache: how much host memory a ratio comes to is known when the server has started; "
            "give hicache.size_gb, so that it can be asked for"
        )
    return tiers.size_gb * server.cards * more * 1e9 / 2**30 + weights


def _more_cards(args: Sequence[str]) -> int:
    """Pipelines and copies have cards of their own; copies of attention alone have not."""
    copies = count_of(args, "--data-parallel-size", "--dp-size") or 1
    copies = 1 if has(args, "--enable-dp-attention") else copies
    return copies * (count_of(args, "--pipeline-parallel-size", "--pp-size") or 1)


PACKAGING = Packaging(
    images={"cuda": "lmsysorg/sglang:v{version}"},  # docker/ of SGLang; none for a CPU
    command=_in_container,
    waiting_metric="sglang:num_queue_reqs",
    key_variable=KEY_VARIABLE,
    charts=frozenset({"llm-d"}),
    more_cards=_more_cards,
    # Its image has no user without rights; when it is told to end it finishes what runs
    # (managers/tokenizer_manager.py, sigterm_watchdog).
    host_tier_gib=_host_tier_gib,
    # What SGLang's own compose file sets (docker/compose.yaml).
    ulimits={"memlock": {"soft": -1, "hard": -1}, "stack": 67108864},
)
TUNING = Tuning({"batched_tokens": "--chunked-prefill-size"}, _usual_settings)
REMEDIES = {
    "off": "start it without --disable-radix-cache; some models and modes turn it off themselves, "
    "and its log says so",
    "unreported": "start it with --enable-cache-report",
    "no-metrics": "start it with --enable-metrics",
    "small-cache": "give the cache more memory (--mem-fraction-static, --max-total-tokens), fewer "
    "bytes a token (--kv-cache-dtype fp8_e4m3), more cards, or a host tier "
    "(--enable-hierarchical-cache)",
    "below-a-block": "smaller blocks: --page-size 1",
    "queue": "more replicas, a lower rate, or let more run at once (--max-running-requests)",
}
