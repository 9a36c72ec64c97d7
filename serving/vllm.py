"""vLLM: flags, counters and cache rules, as of 0.32.

Not here: starting it (server.py), talking to it (endpoint.py).
"""

from __future__ import annotations

import json
import re

from configs.errors import UsageError
from configs.schema import Arm, ServerConfig
from serving.counters import CacheCounters, CacheFacts, Metrics, total
from serving.engine import LaunchPlan, Site, refuse

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
    "--model": "use the key 'model'",
    "--api-key": "use the key 'api_key_env'; a key in an argument list shows in every process list",
}
"""Flags that the toolkit sets itself, with what a user writes instead."""

OWN_ENV = {
    "VLLM_SERVER_DEV_MODE": "use the key 'dev_mode', which keeps it on loopback",
    "VLLM_API_KEY": "use the key 'api_key_env'",
}
"""Variables that the toolkit sets itself: refused in a server file, never inherited."""

# bfloat16 without these is emulated: a 1,600-token prefill of a 135M model took 44 s in bfloat16
# and 10 s in float32 on an AVX2 machine; with AVX512-BF16 bfloat16 is the faster one.
CPU_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})

CPU_BLOCK_MULTIPLE = 32  # vLLM's CPU attention asserts it; 16 makes the engine die at start-up


class VLLM:
    """The vLLM OpenAI server."""

    name = "vllm"
    health_path = "/health"
    reset_path: str | None = "/reset_prefix_cache"
    failure_line = re.compile(
        r"(Error|Exception|error:|Traceback|CUDA|out of memory|not found|No available memory)"
    )

    def plan(self, server: ServerConfig, arm: Arm, site: Site) -> LaunchPlan:
        refuse(server, OWN_FLAGS, OWN_ENV)
        if (
            site.device == "cpu"
            and server.block_tokens
            and server.block_tokens % CPU_BLOCK_MULTIPLE
        ):
            raise UsageError(
                f"block_tokens: {server.block_tokens} does not work on a CPU: vLLM's CPU attention "
                f"needs a multiple of {CPU_BLOCK_MULTIPLE} (its default is 128; 32 reuses most)"
            )
        argv = [str(site.bin_dir / "vllm"), "serve", site.model]
        argv += ["--host", server.host, "--port", str(site.port)]
        argv += ["--served-model-name", server.name_in_api]
        argv += ["--no-enable-prefix-caching" if arm == "jit" else "--enable-prefix-caching"]
        argv += ["--enable-prompt-tokens-details", "--dtype", _dtype(server, site)]
        if server.context_tokens:
            argv += ["--max-model-len", str(server.context_tokens)]
        if server.block_tokens:
            argv += ["--block-size", str(server.block_tokens)]
        if server.cache_gib:
            argv += ["--kv-cache-memory-bytes", str(int(server.cache_gib * 2**30))]
        env = {"VLLM_NO_USAGE_STATS": "1", **site.env, **server.env}
        if server.dev_mode:
            env["VLLM_SERVER_DEV_MODE"] = "1"
        return LaunchPlan(
            argv=(*argv, *site.serve_args, *server.args),
            env=env,
            secrets={"VLLM_API_KEY": server.api_key_env} if server.api_key_env else {},
            not_inherited=tuple(OWN_ENV),
            host=server.host,
            port=site.port,
            health_path=self.health_path,
            served_name=server.name_in_api,
        )

    def cache_facts(self, metrics: Metrics) -> CacheFacts:
        samples = metrics.get("vllm:cache_config_info", [])
        labels = samples[0].labels if samples else {}
        enabled = labels.get("enable_prefix_caching")
        return CacheFacts(
            enabled=None if enabled in (None, "None") else enabled == "True",
            block_tokens=_int_label(labels, "block_size"),
            capacity_tokens=_int_label(labels, "kv_cache_size_tokens"),
        )

    def counters(self, metrics: Metrics) -> CacheCounters:
        return CacheCounters(
            queried_tokens=total(metrics, "vllm:prefix_cache_queries_total"),
            hit_tokens=total(metrics, "vllm:prefix_cache_hits_total"),
            prompt_tokens=total(metrics, "vllm:prompt_tokens_total"),
            output_tokens=total(metrics, "vllm:generation_tokens_total"),
            preemptions=total(metrics, "vllm:num_preemptions_total"),
        )

    def reset_succeeded(self, status: int, body: str) -> bool:
        # The endpoint answers 200 with {"success": false} while any block is held.
        try:
            answer = json.loads(body)
        except ValueError:
            return False
        return status == 200 and isinstance(answer, dict) and answer.get("success") is True

    def expected_cached_tokens(self, shared: int, prompt_tokens: int, block_tokens: int) -> int:
        # Only full blocks are cached, and the last token is always recomputed for its logits
        # (v1/core/kv_cache_manager.py, get_computed_blocks).
        return max(0, min(shared, prompt_tokens - 1)) // block_tokens * block_tokens


def _dtype(server: ServerConfig, site: Site) -> str:
    if server.dtype != "auto" or site.device != "cpu":
        return server.dtype
    return "bfloat16" if site.cpu_flags & CPU_BF16_FLAGS else "float32"


def _int_label(labels: dict[str, str], name: str) -> int | None:
    value = labels.get(name, "")
    return int(value) if value.isdigit() else None
