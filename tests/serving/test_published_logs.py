"""The arithmetic of memory against logs that others have published of GPUs (published.json).

`weights_gib` and, where there is one, the batch are those of the log; layers are those of the
model's config.json, of a sibling of the same shape where the log is of a quantized copy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aot.configs.schema.hardware import Architecture
from aot.configs.schema.server import ServerConfig
from aot.serving.engines.card.budget import GIB, Place
from aot.serving.engines.card.pools import STATE_RATIO, SWA_RATIO, in_pools, kept
from aot.serving.engines.vllm import VLLM
from aot.serving.memory.architectures import described
from aot.serving.memory.card_memory import Memory, _kv_dtype, _latent_bytes, memory_of

LOGS = json.loads((Path(__file__).parent / "published.json").read_text())
SGLANG = json.loads((Path(__file__).parent / "published_sglang.json").read_text())
SIZES = [log for log in LOGS if log.get("cache_tokens")]
CARDS = [log for log in LOGS if {"total_gib", "utilization", "weights_gib"} <= log.keys()]
NEAR_GIB = 1.0
"""What one log's reserve may be beside those that the least and the most are from."""
DOCS = Path(__file__).parents[2] / "docs" / "gpu-boxes.md"


def called(log: dict[str, Any]) -> str:
    return f"{log['model']} {log.get('gpus', 1)}x{log['card']} {log['version'][:9]}"


def model_of(log: dict[str, Any]) -> Architecture:
    made = described(log["model"], log["config"], {"U8": 10**9}, log["source"])
    return made.model_copy(update={"weights_gib": log.get("weights_gib", 1.0) * log["gpus"]})


def server_of(log: dict[str, Any]) -> ServerConfig:
    args = [*log["args"]]
    if "utilization" in log:
        args += ["--gpu-memory-utilization", str(log["utilization"])]
    keys = {"model": "some/model", "gpus": log["gpus"], "args": args}
    return ServerConfig.model_validate({**keys, "context_tokens": log.get("context_tokens")})


def place_of(log: dict[str, Any]) -> Place:
    return Place(log["card"], log.get("total_gib", 80.0), cuda=True, fp8=True)


def memory(log: dict[str, Any]) -> Memory:
    return memory_of(server_of(log), model_of(log), place_of(log), "bfloat16")


@pytest.mark.parametrize("log", SIZES, ids=called)
def test_a_cache_holds_the_tokens_that_were_printed(log: dict[str, Any]) -> None:
    """From the logged GiB to the logged tokens: what each kind of layers keeps."""
    server, model = server_of(log), model_of(log)
    kv_dtype, value_bytes = _kv_dtype(server, model, "bfloat16")
    of = kept(model, log["gpus"], value_bytes, _latent_bytes(model, kv_dtype))
    context = log.get("context_tokens", model.context_tokens)
    rules = VLLM().memory
    cache = int(log["cache_gib"] * GIB)
    found = rules.held(server, place_of(log), cache, of, 16, context)
    assert found.tokens == pytest.approx(log["cache_tokens"], rel=0.025), log["source"]


@pytest.mark.parametrize("log", CARDS, ids=called)
def test_the_cache_is_between_the_least_and_the_most(log: dict[str, Any]) -> None:
    found = memory(log)
    assert found.left_gib - NEAR_GIB < log["cache_gib"] < found.most_left_gib + NEAR_GIB


@pytest.mark.parametrize("log", [log for log in CARDS if log["refused"]], ids=called)
def test_what_was_refused_is_never_said_to_fit(log: dict[str, Any]) -> None:
    assert not memory(log).fits


@pytest.mark.parametrize(
    "log", SGLANG, ids=lambda log: f"{log['model']} {log['gpus']}x{log['card']}"
)
def test_sglangs_pools_hold_the_tokens_that_were_printed(log: dict[str, Any]) -> None:
    """All of the project's own floors of memory and other logs: 0.99 of a mean in each of them."""
    model = described(log["model"], log["config"], {"U8": 10**9}, log["source"])
    of = kept(model, log["gpus"], 2, None)
    pool = int(log["kv_gib"] * GIB)
    assert pool / (of.full_layers * of.full) == pytest.approx(log["tokens"], rel=0.001)
    if windows := log.get("window_tokens"):
        assert windows == pytest.approx(SWA_RATIO * log["tokens"], rel=0.001)
        whole = pool + windows * model.sliding_layers * of.sliding
        assert in_pools(int(whole), of, 1, SWA_RATIO, STATE_RATIO).tokens == pytest.approx(
            log["tokens"], rel=0.001
        )
    if states := log.get("state_gib"):
        whole = (log["kv_gib"] + states) * GIB
        assert in_pools(int(whole), of, 1, SWA_RATIO, STATE_RATIO).tokens == pytest.approx(
            log["tokens"], rel=0.005
        )


def error(log: dict[str, Any]) -> str:
    """Of the cache in GiB, with its sign; or that it is not said as one number."""
    found = memory(log)
    if log["cache_gib"] <= 0 or found.left_gib <= 0:
        return "does not fit" if not found.may_fit else "cannot say"
    if found.most_left_gib > 1.3 * found.left_gib:
        return f"cannot say ({found.left_gib:.1f} to {found.most_left_gib:.1f} GiB)"
    return f"{found.left_gib / log['cache_gib'] - 1:+.0%}"


def test_errors_are_within_what_is_promised_and_stand_in_the_docs() -> None:
    page, rows = DOCS.read_text(), []
    for log in CARDS:
        model, said = model_of(log), error(log)
        dense = "num_experts_per_tok" not in log["config"] and not (
            model.sliding_layers or model.state_layers or model.latent_dim
        )
        if said.endswith("%"):
            assert abs(int(said[:-1])) <= (15 if dense else 25), (called(log), said)
        logged = f"{log['cache_gib']:.1f}{' (refused)' if log['refused'] else ''}"
        rows.append(f"| {called(log)} | {logged} | {said} |")
    missing = [row for row in rows if row not in page]
    assert not missing, "docs/gpu-boxes.md lacks:\n" + "\n".join(missing)
