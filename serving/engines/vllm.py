"""vLLM: flags and cache rules as of 0.32 and 0.33; counters by the names of 0.8 to 0.33.

Not here: starting it (server.py), talking to it (endpoint.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from aot.configs.caches.rule import CacheRule
from aot.configs.kernel.errors import UsageError
from aot.configs.schema.experiment import Arm
from aot.configs.schema.recipe import Device
from aot.configs.schema.server import ServerConfig, replay_endpoint
from aot.serving.engines import vllm_cache, vllm_memory, vllm_operations
from aot.serving.engines.block_hashes import ALGORITHM, hexadecimal
from aot.serving.engines.engine import Engine, Page, Reset
from aot.serving.engines.flags import FileRules, meant, refuse
from aot.serving.engines.launch_plan import Site, dtype
from aot.serving.metrics.counters import CacheCounters, CacheFacts, Metrics, total
from aot.serving.metrics.histograms import Where

OWN_FLAGS = {
    "--enable-prefix-caching": "the arm sets it",
    "--no-enable-prefix-caching": "the arm sets it",
    "--host": "use the key 'host'",
    "--port": "use the key 'port'",
    "--served-model-name": "use the key 'served_name'",
    "--max-model-len": "use the key 'context_tokens'",
    "--block-size": "use the key 'block_tokens'",
    "--kv-cache-memory-bytes": "use the key 'cache_gib'",
    "--dtype": "use the key 'dtype'",
    "--kv-events-config": "use the key 'kv_events'",
    "--model": "use the key 'model'",
    "--tensor-parallel-size": "use the key 'gpus', so that containers and replicas get as many",
    "-tp": "use the key 'gpus', so that containers and replicas get as many",
    "--api-key": "use the key 'api_key_env'; a key in an argument list shows in every process list",
}
"""Flags that the toolkit sets itself, with what a user writes instead."""

OWN_ENV = {
    "VLLM_SERVER_DEV_MODE": "use the key 'dev_mode', which keeps it on loopback",
    "VLLM_API_KEY": "use the key 'api_key_env'",
}
"""Variables that the toolkit sets itself: refused in a server file, never inherited."""

INSTEAD_OF = {
    "schedule_policy": "it is SGLang's; on vLLM use args: [--scheduling-policy, ...]",
    "hicache": "it is SGLang's; on vLLM use the key 'host_cache_gib'",
    "prefix_attention": "it is SGLang's; vLLM attends from the new tokens only as it is",
}
"""Keys of a server file that vLLM has no setting for, with what to write instead."""

VALUE_FLAGS = frozenset({
    "--dtype", "--kv-cache-dtype", "--calculate-kv-scales", "--quantization", "--revision",
    "--hf-overrides", "--hf-config-path", "--tensor-parallel-size", "--pipeline-parallel-size",
    "--enable-lora", "--lora-modules", "--load-format", "-q", "-tp", "-pp",
})  # fmt: skip
"""Arguments that decide which values stand in a block."""
STORE_LIMITS = {"lmcache.mp.mq_timeout": 30.0, "lmcache.mp.heartbeat_interval": 3.0}
"""Seconds after which an engine goes on without its store: by default a request that a dead store
was asked about hangs for 300."""
OFFLOADING_FLAG = "--kv-offloading-size"
"""GiB of all ranks together."""
BLOCKS_FLAG = "--num-gpu-blocks-override"
DEFAULT_BLOCK: Mapping[Device, int] = {"cpu": 128, "cuda": 16}
CPU_BLOCK_MULTIPLE = 32  # vLLM's CPU attention asserts it; 16 makes the engine die at start-up


class VLLM(Engine):
    """The vLLM OpenAI server."""

    name = "vllm"
    title = "vLLM"
    health_path = "/health"
    alive_path = "/health"
    info_path = "/version"
    reset = Reset("/reset_prefix_cache", needs_dev_mode=True)
    has_salts = True
    salts_since = "0.9.0"  # PR #17045, merged after 0.8.5
    gauges: Mapping[str, str] = {
        "running": "vllm:num_requests_running",
        "waiting": "vllm:num_requests_waiting",
        "kv_usage": "vllm:kv_cache_usage_perc|vllm:gpu_cache_usage_perc",
        "preemptions": "vllm:num_preemptions_total",
    }
    stages: Mapping[str, Where] = {
        "queue": Where("vllm:request_queue_time_seconds"),
        "prefill": Where("vllm:request_prefill_time_seconds"),
        "ttft": Where("vllm:time_to_first_token_seconds"),
        "decode": Where("vllm:request_decode_time_seconds"),
        "e2e": Where("vllm:e2e_request_latency_seconds"),
        # With --kv-cache-metrics.
        "block_lifetime": Where("vllm:kv_block_lifetime_seconds"),
        "block_idle": Where("vllm:kv_block_idle_before_evict_seconds"),
        "block_reuse_gap": Where("vllm:kv_block_reuse_gap_seconds"),
    }
    failure_line = re.compile(
        r"(Error|Exception|error:|Traceback|CUDA|out of memory|not found|No available memory)"
    )

    out_of_memory = re.compile(
        r"out of memory|OutOfMemory|No available memory for the cache|max seq len|"
        r"[Aa]vailable memory|Free memory on device"
    )
    cores_variable = "VLLM_CPU_OMP_THREADS_BIND"
    default_blocks = DEFAULT_BLOCK
    default_router = "vllm-router"
    rendering_args = ("--enable-scale-out",)
    reports_cached_by = "--enable-prompt-tokens-details"
    requests_metric = "vllm:request_success_total"
    remedies = vllm_operations.REMEDIES
    capacity_metric = "vllm:cache_config_info"
    block_hashes = staticmethod(hexadecimal)
    file_rules = FileRules(
        frozenset({"cache_gib", "host_cache_gib", "kv_events", "dev_mode", "store"}),
        INSTEAD_OF, OWN_FLAGS, OWN_ENV,
        vllm_cache.CONNECTORS | {OFFLOADING_FLAG, "--kv-offloading-backend"},
        vllm_cache.CONNECTORS, value_flags=VALUE_FLAGS,
    )  # fmt: skip
    packaging = vllm_operations.PACKAGING
    watched = vllm_operations.WATCHED
    memory = vllm_memory.RULES
    tuning = vllm_operations.TUNING

    def command(
        self, server: ServerConfig, arm: Arm, site: Site
    ) -> tuple[list[str], dict[str, str]]:
        _check(server, site)
        argv = [str(site.bin_dir / "vllm"), "serve", site.model]
        argv += ["--host", server.host, "--port", str(site.port)]
        argv += ["--served-model-name", server.name_in_api]
        argv += ["--no-enable-prefix-caching" if arm == "jit" else "--enable-prefix-caching"]
        argv += ["--enable-prompt-tokens-details", "--dtype", dtype(server, site)]
        if server.context_tokens:
            argv += ["--max-model-len", str(server.context_tokens)]
        if server.block_tokens:
            argv += ["--block-size", str(server.block_tokens)]
        if server.cache_gib:
            argv += ["--kv-cache-memory-bytes", str(int(server.cache_gib * 2**30))]
        if server.host_cache_gib and arm != "jit":
            argv += [OFFLOADING_FLAG, f"{server.host_cache_gib:g}"]
        if server.gpus:
            argv += ["--tensor-parallel-size", str(server.gpus)]
        if server.cache_tokens:
            argv += [BLOCKS_FLAG, str(_blocks(server, site))]
        argv += _published(server.kv_events) if server.kv_events else []
        argv += _connected(site.store) if site.store else []
        env = {"VLLM_NO_USAGE_STATS": "1"}
        if server.dev_mode:
            env["VLLM_SERVER_DEV_MODE"] = "1"
        return argv, env

    def recognises(self, page: Page) -> bool:
        return any(name.startswith("vllm:") for name in page.metrics)

    def cache_facts(self, page: Page) -> CacheFacts:
        samples = page.metrics.get("vllm:cache_config_info", [])
        labels = samples[0].labels if samples else {}
        enabled = labels.get("enable_prefix_caching")
        block = _int_label(labels, "block_size")
        return CacheFacts(
            enabled=None if enabled in (None, "None") else enabled == "True",
            block_tokens=block,
            capacity_tokens=_int_label(labels, "kv_cache_size_tokens") or _in_blocks(labels),
            rule=vllm_cache.rule(labels, block, page.model, page.args) if block else None,
        )

    def planned_rule(
        self, block_tokens: int, model: Mapping[str, Any], args: Sequence[str]
    ) -> CacheRule | None:
        return vllm_cache.planned(block_tokens, model, args)

    def counters(self, metrics: Metrics) -> CacheCounters:
        return CacheCounters(
            queried_tokens=_either(metrics, "prefix_cache_queries_total"),
            hit_tokens=_with_store(metrics),
            prompt_tokens=total(metrics, "vllm:prompt_tokens_total"),
            output_tokens=total(metrics, "vllm:generation_tokens_total"),
            preemptions=total(metrics, "vllm:num_preemptions_total"),
            second_hit_tokens=total(metrics, "vllm:prompt_tokens_cached_total"),
            second_prompt_tokens=total(metrics, "vllm:prompt_tokens_by_source_total"),
            device_tokens=_from(metrics, "device"),
            host_tokens=_from(metrics, "host"),
            disk_tokens=_from(metrics, "disk"),
            store_tokens=_from(metrics, "external_unspecified", "p2p"),
        )

    def reset_refusal(self, status: int, body: str) -> str | None:
        # The endpoint answers 200 with {"success": false} while any block is held.
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if status == 200 and isinstance(answer, dict) and answer.get("success") is True:
            return None
        return "blocks are held while requests run; wait for them, or leave 'cache_reset' out"


def _connected(store: str) -> list[str]:
    """To a KV store at HOST:PORT; its connector knows one kind of layers only."""
    host, _, port = store.rpartition(":")
    where = {"lmcache.mp.host": f"tcp://{host}", "lmcache.mp.port": int(port), **STORE_LIMITS}
    connector = {"kv_connector": "LMCacheMPConnector", "kv_role": "kv_both"}
    config = json.dumps({**connector, "kv_connector_extra_config": where})
    return ["--kv-transfer-config", config, vllm_cache.ONE_KIND]


def _published(endpoint: str) -> list[str]:
    """KV events, with block hashes that are the same everywhere."""
    config = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": endpoint,
        "replay_endpoint": replay_endpoint(endpoint),
    }
    words = ["--prefix-caching-hash-algo", ALGORITHM]
    return [*words, "--kv-events-config", json.dumps(config)]


def _blocks(server: ServerConfig, site: Site) -> int:
    """Blocks for `cache_tokens`; one more is never used (v1/core/block_pool.py, null_block)."""
    block = server.block_tokens or DEFAULT_BLOCK[site.device]
    return -(-(server.cache_tokens or 0) // block) + 1


def _check(server: ServerConfig, site: Site) -> None:
    refuse(server, VLLM.file_rules)
    if server.kv_events and not re.fullmatch(r"ipc://.+|tcp://.+:\d+", server.kv_events):
        raise UsageError(
            f"kv_events: {server.kv_events} is no endpoint; expected ipc:///PATH or tcp://127.0.0.1:PORT"
        )
    if server.kv_events:
        vllm_operations.check_one_copy(server.args)
    if server.cache_tokens and any(a.startswith(BLOCKS_FLAG) for a in server.args):
        raise UsageError(f"cache_tokens: args has {BLOCKS_FLAG} already; give only one of the two")
    if server.host_cache_gib:
        _check_host_tier(server, site)
    if server.store and VLLM().outlives(server):
        raise UsageError(
            "store: args has a connector already (--kv-transfer-config), and an engine has one; "
            "leave out one of the two"
        )
    block = server.block_tokens
    if site.device == "cpu" and block and block % CPU_BLOCK_MULTIPLE:
        raise UsageError(
            f"block_tokens: {block} does not work on a CPU: vLLM's CPU attention needs a multiple "
            f"of {CPU_BLOCK_MULTIPLE} (its default is 128; 32 reuses most)"
        )


def _check_host_tier(server: ServerConfig, site: Site) -> None:
    if site.device == "cpu":
        raise UsageError(
            "host_cache_gib: on a CPU the cache is in host memory as it is; raise cache_gib (a "
            "second tier needs a GPU)"
        )
    if any(meant(arg, "vllm", VLLM.file_rules.tier_flags) for arg in server.args) or server.store:
        raise UsageError(
            "host_cache_gib: args, or 'store', have a tier beyond the device already, and an "
            "engine takes one; leave out one of the two"
        )


def _with_store(metrics: Metrics) -> float | None:
    """Tokens found: the first counter is of the device alone, the second of what a connector has
    of the rest."""
    device = _either(metrics, "prefix_cache_hits_total")
    beyond = total(metrics, "vllm:external_prefix_cache_hits_total")
    return device if device is None or beyond is None else device + beyond


def _from(metrics: Metrics, *sources: str) -> float | None:
    known = [total(metrics, "vllm:prompt_tokens_cached_by_source_total", source=s) for s in sources]
    return None if None in known else sum(k for k in known if k is not None)


def _either(metrics: Metrics, name: str) -> float | None:
    """A count of tokens, also under its name of 0.8 and 0.9, when all caches were on GPUs."""
    now = total(metrics, f"vllm:{name}")
    return total(metrics, f"vllm:gpu_{name}") if now is None else now


def _in_blocks(labels: dict[str, str]) -> int | None:
    """The capacity by older versions, which say how many blocks there are."""
    blocks, tokens = _int_label(labels, "num_gpu_blocks"), _int_label(labels, "block_size")
    return blocks * tokens if blocks and tokens else None


def _int_label(labels: dict[str, str], name: str) -> int | None:
    value = labels.get(name, "")
    return int(value) if value.isdigit() else None
