"""SGLang: flags, counters and cache rules, as of 0.5.23.

Not here: starting it (server.py), talking to it (endpoint.py), what its wheels lack on a CPU
(in_engine/sglang_server.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aot.configs.kernel.errors import UsageError
from aot.configs.schema.experiment import Arm
from aot.configs.schema.server import HiCache, ServerConfig
from aot.serving.engines import sglang_memory, sglang_operations
from aot.serving.engines.engine import Engine, Page, Reset
from aot.serving.engines.flags import FileRules, refuse
from aot.serving.engines.launch_plan import Site, dtype
from aot.serving.metrics.counters import CacheCounters, CacheFacts, Metrics, total
from aot.serving.metrics.histograms import Where

_IN_THE_ENVIRONMENT = "use the key 'api_key_env'; a key in an argument list shows in process lists"
_CARDS = "use the key 'gpus', so that containers and replicas get as many"
OWN_FLAGS = {
    "--disable-radix-cache": "the arm sets it",
    "--enable-cache-report": "it is always on: without it no answer says what was cached",
    "--enable-metrics": "it is always on: without it there are no counters",
    "--host": "use the key 'host'",
    "--port": "use the key 'port'",
    "--served-model-name": "use the key 'served_name'",
    "--context-length": "use the key 'context_tokens'",
    "--page-size": "use the key 'block_tokens'",
    "--max-total-tokens": "use the key 'cache_tokens'",
    "--schedule-policy": "use the key 'schedule_policy'",
    "--enable-hierarchical-cache": "use the key 'hicache'",
    "--enable-hicache": "use the key 'hicache'",
    "--hicache-ratio": "use hicache.ratio",
    "--hicache-size": "use hicache.size_gb",
    "--hicache-write-policy": "use hicache.write_policy",
    "--hicache-storage-backend": "use hicache.storage",
    "--hicache-storage-prefetch-policy": "use hicache.prefetch",
    "--dtype": "use the key 'dtype'",
    "--model": "use the key 'model'",
    "--model-path": "use the key 'model'",
    "--tp-size": _CARDS,
    "--tensor-parallel-size": _CARDS,
    "--api-key": _IN_THE_ENVIRONMENT,
    "--admin-api-key": _IN_THE_ENVIRONMENT,
}
"""Flags that the toolkit sets itself, with what a user writes instead."""

HOOK_VARIABLE = "AOT_SGLANG_PREFIX_ATTENTION"
DEVICE_VARIABLE = "AOT_SGLANG_DEVICE"
OWN_ENV = {
    sglang_operations.KEY_VARIABLE: "use the key 'api_key_env'",
    HOOK_VARIABLE: "use the key 'prefix_attention', so that the report can say so",
    DEVICE_VARIABLE: "the environment's recipe says which device it is for",
}
"""Variables between the toolkit and its launcher: refused in a server file, never inherited."""

INSTEAD_OF = {
    "store": "it is vLLM's; on SGLang use hicache: {storage: ...}",
    "cache_gib": "SGLang's cache is sized in tokens: use the key 'cache_tokens'",
    "kv_events": "it is vLLM's; on SGLang use args: [--kv-events-config, ...]",
    "dev_mode": "SGLang's /flush_cache is always open; remove the key",
}
"""Keys of a server file that SGLang has no setting for, with what to write instead."""

COMPUTED = "sglang:realtime_tokens_total"
FLUSH_WAIT_S = 10


MODIFIED_BY = {
    "prefix_attention": "a hook of this toolkit replaced SGLang's torch_native attention over "
    "cached prefixes. Timings are a property of SGLang's cache and this attention, not of stock "
    "SGLang"
}


LMCACHE = frozenset({"--enable-lmcache"})


class SGLang(Engine):
    """The SGLang OpenAI-compatible server."""

    name = "sglang"
    title = "SGLang"
    # It generates one token: about 1 s at rest, and behind the queue under load.
    health_path = "/health"
    health_timeout_s = 20.0
    alive_path = "/ready"
    info_path = "/server_info|/get_server_info"  # the second: until 0.5
    folder_key = "model_path"
    # It waits that long for running requests, then gives up with 400.
    reset = Reset(f"/flush_cache?timeout={FLUSH_WAIT_S}", needs_dev_mode=False)
    has_salts = True
    unsalted_endpoints = frozenset({"messages"})
    salts_since = "0.5.11"  # accepted from 0.5.3 on, and dropped on the way until PR #23300
    gauges: Mapping[str, str] = {
        "running": "sglang:num_running_reqs",
        "waiting": "sglang:num_queue_reqs",
        "kv_usage": "sglang:token_usage",
        "preemptions": "sglang:num_retracted_requests_total",
        "evicted_tokens": "sglang:evicted_tokens_total",
    }
    stages: Mapping[str, Where] = {
        "queue": Where("sglang:queue_time_seconds"),
        "prefill": Where("sglang:per_stage_req_latency_seconds", (("stage", "prefill_forward"),)),
        "ttft": Where("sglang:time_to_first_token_seconds"),
        "e2e": Where("sglang:e2e_request_latency_seconds"),
    }
    failure_line = re.compile(
        r"^(?!.*Ignore import error)"
        r".*(Error|Exception|error:|Traceback|CUDA|out of memory|not found|Not enough memory)"
    )

    out_of_memory = re.compile(
        r"out of memory|OutOfMemory|[Aa]vailable memory|Not enough memory|leave no GPU memory"
    )
    cores_variable = "SGLANG_CPU_OMP_THREADS_BIND"
    default_router = "sglang-router"
    reports_cached_by = "--enable-cache-report"
    requests_metric = "sglang:num_requests_total"
    remedies = sglang_operations.REMEDIES
    capacity_metric = "sglang:max_total_num_tokens"
    file_rules = FileRules(
        frozenset({"host_cache_gib", "schedule_policy", "hicache", "prefix_attention"}),
        INSTEAD_OF, OWN_FLAGS, OWN_ENV, LMCACHE, LMCACHE, MODIFIED_BY,
    )  # fmt: skip
    packaging = sglang_operations.PACKAGING
    watched = sglang_operations.WATCHED
    memory = sglang_memory.RULES
    tuning = sglang_operations.TUNING

    def command(
        self, server: ServerConfig, arm: Arm, site: Site
    ) -> tuple[list[str], dict[str, str]]:
        _check(server, site)
        argv = [
            str(site.bin_dir / "python"),
            str(sglang_operations.LAUNCHER),
            "--model-path",
            site.model,
        ]
        argv += ["--host", server.host, "--port", str(site.port)]
        argv += ["--served-model-name", server.name_in_api]
        argv += ["--enable-cache-report", "--enable-metrics", "--dtype", dtype(server, site)]
        if arm == "jit":
            argv += ["--disable-radix-cache"]
        else:  # tiers of the cache, so jit is without them
            argv += _tiers(server)
        for flag, value in (
            ("--context-length", server.context_tokens),
            ("--page-size", server.block_tokens),
            ("--max-total-tokens", server.cache_tokens),
            ("--tp-size", server.gpus),
            ("--schedule-policy", server.schedule_policy),
        ):
            argv += [flag, str(value)] if value else []
        env: dict[str, str] = {DEVICE_VARIABLE: site.device}
        if server.prefix_attention:
            env[HOOK_VARIABLE] = "1"
        return argv, env

    def outlives(self, server: ServerConfig) -> bool:
        stored = server.hicache is not None and server.hicache.storage is not None
        return stored or super().outlives(server)

    def recognises(self, page: Page) -> bool:
        return "disable_radix_cache" in page.info or _is_ours(page.metrics)

    def cache_facts(self, page: Page) -> CacheFacts:
        # The resolved arguments: SGLang turns the cache off by itself for some models and modes.
        disabled = page.info.get("disable_radix_cache")
        return CacheFacts(
            enabled=not disabled if isinstance(disabled, bool) else None,
            block_tokens=_gauge(page.metrics, "sglang:page_size") or page.info.get("page_size"),
            capacity_tokens=_gauge(page.metrics, "sglang:max_total_num_tokens"),
        )

    def counters(self, metrics: Metrics) -> CacheCounters:
        # Never sglang:cache_hit_rate, which is of the last prefill only. cached_tokens_total has a
        # series per cache_source (device, host, storage; 'total' only where those are unknown).
        computed = _count(metrics, COMPUTED, mode="prefill_compute")
        cached = _count(metrics, COMPUTED, mode="prefill_cache")
        return CacheCounters(
            queried_tokens=None,  # not counted apart: every prompt token is looked up
            hit_tokens=_count(metrics, "sglang:cached_tokens_total"),
            prompt_tokens=_count(metrics, "sglang:prompt_tokens_total"),
            output_tokens=_count(metrics, "sglang:generation_tokens_total"),
            preemptions=_count(metrics, "sglang:num_retracted_requests_total"),
            device_tokens=_count(metrics, "sglang:cached_tokens_total", cache_source="device"),
            host_tokens=_count(metrics, "sglang:cached_tokens_total", cache_source="host"),
            disk_tokens=_count(metrics, "sglang:cached_tokens_total", cache_source="storage"),
            second_hit_tokens=cached,
            second_prompt_tokens=None if cached is None or computed is None else cached + computed,
        )

    def reset_refusal(self, status: int, body: str) -> str | None:
        if status == 200 and "Cache flushed" in body:
            return None
        if status == 400:
            return (
                f"requests were still running or waiting after {FLUSH_WAIT_S} s; end what else "
                "sends requests to this server, or leave 'cache_reset' out"
            )
        return "is it an SGLang server, and is the key right?"


def _check(server: ServerConfig, site: Site) -> None:
    refuse(server, SGLang.file_rules)
    if server.prefix_attention and site.device != "cpu":
        raise UsageError("prefix_attention: it mends torch_native on a CPU; remove the key on GPUs")
    if (server.hicache or server.host_cache_gib) and site.device == "cpu":
        key = "hicache" if server.hicache else "host_cache_gib"
        raise UsageError(f"{key}: SGLang registers its host pool with CUDA, so it needs a GPU")
    if (
        server.host_cache_gib
        and server.hicache
        and (server.hicache.ratio or server.hicache.size_gb)
    ):
        raise UsageError(
            "host_cache_gib: hicache has a size of the same tier; leave one of them out"
        )


def _tiers(server: ServerConfig) -> list[str]:
    tiers = server.hicache
    if server.host_cache_gib:
        # Whole GB of one rank.
        size_gb = round(server.host_cache_gib * 2**30 / 1e9 / (server.gpus or 1))
        tiers = (tiers or HiCache()).model_copy(update={"size_gb": max(1, size_gb)})
    return _hicache(tiers) if tiers else []


def _hicache(tiers: HiCache) -> list[str]:
    flags = {
        "--hicache-ratio": tiers.ratio,
        "--hicache-size": tiers.size_gb,
        "--hicache-write-policy": tiers.write_policy,
        "--hicache-storage-backend": tiers.storage,
        "--hicache-storage-prefetch-policy": tiers.prefetch,
    }
    words = [w for flag, value in flags.items() if value for w in (flag, str(value))]
    return ["--enable-hierarchical-cache", *words]


def _is_ours(metrics: Metrics) -> bool:
    return any(name.startswith("sglang:") for name in metrics)


def _count(metrics: Metrics, name: str, **labels: str) -> float | None:
    """A counter. SGLang's page leaves out what has not been counted yet: it is 0 where the version
    is known to have it (0.5.8 and later, which have one of computed tokens), and where nothing has
    been served at all; on other pages an absent counter is unknown."""
    value = total(metrics, name, **labels)
    if value is not None or not _is_ours(metrics):
        return value
    served = total(metrics, "sglang:prompt_tokens_total")
    return 0.0 if total(metrics, COMPUTED) is not None or not served else None


def _gauge(metrics: Metrics, name: str) -> int | None:
    value = total(metrics, name)
    return None if value is None else int(value)
