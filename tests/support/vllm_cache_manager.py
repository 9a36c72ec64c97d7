"""Schedules through vLLM's own KVCacheManager, without an engine: runs in the engine's environment.

stdin: a case a line (`rule` as CacheRule.as_json, `blocks`, `steps`); stdout: what each request
found, in tokens. A step starts a request ("prompt"), computes more of one ("tokens", after the
"output" that was generated), or ends it.
"""

import json
import logging
import sys

logging.disable(logging.WARNING)

import torch  # noqa: E402
from vllm.sampling_params import SamplingParams  # noqa: E402
from vllm.utils.hashing import sha256  # noqa: E402
from vllm.v1.core.kv_cache_manager import KVCacheManager  # noqa: E402
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash  # noqa: E402
from vllm.v1.kv_cache_interface import (  # noqa: E402
    ChunkedLocalAttentionSpec,
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    MambaSpec,
    SlidingWindowSpec,
)
from vllm.v1.request import Request  # noqa: E402

SPARSE = ("window", "state", "states")


def spec(layers, block):
    usual = {"block_size": block, "num_kv_heads": 1, "head_size": 64, "dtype": torch.float16}
    kind, tokens = layers["kind"], layers["tokens"]
    if kind == "window":
        return SlidingWindowSpec(sliding_window=tokens, **usual)
    if kind == "chunk":
        return ChunkedLocalAttentionSpec(attention_chunk_size=tokens, **usual)
    if kind in ("state", "states"):
        mode = "align" if kind == "state" else "all"
        shapes, dtypes = ((8, 8),), (torch.float32,)
        return MambaSpec(block_size=block, shapes=shapes, dtypes=dtypes, mamba_cache_mode=mode)
    return FullAttentionSpec(**usual)


def manager(rule, blocks):
    block = rule["block_tokens"]
    groups = [
        KVCacheGroupSpec([f"{number}.{copy}"], spec(group, block))
        for number, group in enumerate(rule["layers"])
        for copy in range(group["copies"])
    ]
    sparse = any(g["kind"] in SPARSE for g in rule["layers"])
    config = KVCacheConfig(
        num_blocks=blocks + 1,  # one is never used
        kv_cache_tensors=[],
        kv_cache_groups=groups,
        prefix_cache_retention_interval=rule["retention_tokens"] if sparse else None,
    )
    return KVCacheManager(
        config,
        max_model_len=32768,
        scheduler_block_size=block,
        hash_block_size=block,
        max_in_flight_tokens=8192,
        enable_caching=True,
        use_eagle=rule["drops_last_block"],
    )


def started(cache, step, hasher):
    params = SamplingParams(max_tokens=64)
    params.update_from_generation_config({}, eos_token_id=0)
    request = Request(
        request_id=step["id"],
        prompt_token_ids=step["prompt"],
        sampling_params=params,
        pooling_params=None,
        mm_features=None,
        block_hasher=hasher,
    )
    blocks, hit, junction = cache.get_computed_blocks(request)
    request.shared_prefix_boundary = junction
    assert cache.allocate_slots(request, step["tokens"], hit, blocks) is not None, "no room"
    request.num_computed_tokens = hit + step["tokens"]
    return request, hit


def replay(case):
    cache, running, found = manager(case["rule"], case["blocks"]), {}, {}
    hasher = get_request_block_hasher(case["rule"]["block_tokens"], sha256)
    for step in case["steps"]:
        cache.new_step_starts()
        if "prompt" in step:
            running[step["id"]], found[step["id"]] = started(cache, step, hasher)
        elif "tokens" in step:
            request = running[step["id"]]
            request.append_output_token_ids(step.get("output", []))
            assert cache.allocate_slots(request, step["tokens"]) is not None, "no room"
            request.num_computed_tokens += step["tokens"]
        else:
            cache.free(running.pop(step["id"]))
    return found


if __name__ == "__main__":
    init_none_hash(sha256)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(replay(json.loads(line))) + "\n")
