"""The arithmetic of memory, against what engines have logged on GPUs that this project lacks."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml

from aot.configs.kernel.errors import NotSettledError, ToolkitError, UsageError
from aot.configs.loading.presets import architectures, card, recipe_names
from aot.configs.schema.hardware import Architecture
from aot.configs.schema.server import ServerConfig
from aot.serving.engines import flags, table
from aot.serving.engines.card.budget import Place, card_as_place
from aot.serving.memory.card_memory import Memory, kv_bytes_per_token, memory_of
from aot.serving.memory.fitting import remedies, resident, shortfall, undecided

MODELS = {model.hub_id.split("/")[1]: model for model in architectures()}
LLAMA = MODELS["Llama-3.1-8B-Instruct"]
CARDS = {name: card_as_place(name, card(name)) for name in recipe_names("cards")}


def on(
    place: str | Place, architecture: Architecture = LLAMA, dtype: str = "auto", **keys: object
) -> Memory:
    server = ServerConfig.model_validate({"model": "some/model", **keys})
    return memory_of(server, architecture, CARDS[place] if isinstance(place, str) else place, dtype)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # layers, hidden, MLP, vocabulary, heads, KV heads, head_dim, extra per layer
        ("Llama-3.1-8B-Instruct", (32, 4096, 14336, 128256, 32, 8, 128, 0)),
        ("Qwen2.5-7B-Instruct", (28, 3584, 18944, 152064, 28, 4, 128, 28 * 128 + 2 * 4 * 128)),
        ("Qwen3-8B", (36, 4096, 12288, 151936, 32, 8, 128, 2 * 128)),
        ("Qwen3-32B", (64, 5120, 25600, 151936, 64, 8, 128, 2 * 128)),
        ("Mistral-7B-Instruct-v0.3", (32, 4096, 14336, 32768, 32, 8, 128, 0)),
    ],
)
def test_shipped_weights_follow_from_the_layers(name: str, parameters: tuple[int, ...]) -> None:
    layers, hidden, mlp, vocabulary, heads, kv_heads, head_dim, extra = parameters
    attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim
    layer = attention + 3 * hidden * mlp + 2 * hidden + extra
    values = layers * layer + 2 * vocabulary * hidden + hidden
    model = MODELS[name]
    assert model.weights_gib == pytest.approx(2 * values / 2**30, abs=0.006)
    shape = (model.layers, model.hidden, model.intermediate, model.vocabulary)
    assert shape == (layers, hidden, mlp, vocabulary)
    assert (model.kv_heads, model.head_dim) == (kv_heads, head_dim)


TOKENKAKI = "github.com/dariustanrd/tokenkaki, 1_vllm: vLLM 0.19.1 on an A100-SXM4-40GB"
GCE = "github.com/ilseokoh/vllm-gce: vLLM 0.15.1, eager, on an A100 of 40 GB"
DENNIS = "github.com/dennislee22/vLLM-benchmarking/log: vLLM 0.10.1 on an A100 of 80 GB"
MYOCEANE = "myoceane.fr, ai-vllm-a100-gemma-4: vLLM 0.19.0 on an A100 of 80 GB"
LOGS = [
    # source, model, total GiB, share, batched tokens; logged: weights GiB, cache GiB, cache tokens
    (TOKENKAKI, "Qwen3-8B", 39.39, 0.9, 2048, 15.27, 19.36, 140_960),
    (GCE, "Llama-3.1-8B-Instruct", 39.39, 0.9, 8192, 14.99, 19.28, 157_936),
    (DENNIS, "Qwen2.5-7B-Instruct", 79.28, 0.5, 2048, 14.25, 24.83, 464_848),
    (DENNIS, "Qwen2.5-7B-Instruct", 79.28, 0.25, 2048, 14.25, 5.01, 93_872),
    (MYOCEANE, "gpt-oss-20b", 79.25, 0.65, 2048, 13.72, 36.56, None),
]
"""Qwen2.5-7B has the layers of Qwen2-7B. None of these took CUDA graphs off the cache: they were
eager, or before 0.21."""


@pytest.mark.parametrize("log", LOGS, ids=lambda log: f"{log[1]}-{log[3]}")
def test_what_vllm_logged_on_gpus(
    log: tuple[str, str, float, float, int, float, float, int],
) -> None:
    source, name, total_gib, share, batch, weights_gib, cache_gib, cache_tokens = log
    args = ["--gpu-memory-utilization", share, "--max-num-batched-tokens", batch]
    args += ["--max-num-seqs", 256, "--enforce-eager"]
    memory = on(Place("a card", total_gib, cuda=True), MODELS[name], args=args)
    assert memory.weights_gib == pytest.approx(weights_gib, abs=0.08), source
    assert memory.left_gib < cache_gib < memory.most_left_gib + 0.4, source
    if cache_tokens:
        logged = cache_gib * 2**30 / memory.kv_bytes_per_token
        assert logged == pytest.approx(cache_tokens, rel=0.001), source


@pytest.mark.parametrize(
    ("total_gib", "fraction", "tokens"),
    [
        # docs.sglang.ai/start/send_request.html: Llama-3.1-8B, 78.81 GiB free at the start.
        (79.2, 0.88, 444_500),
        # github.com/sgl-project/sglang/pull/4760: the same model and fraction.
        (79.1, 0.88, 442_750),
    ],
)
def test_what_sglang_logged_on_gpus(total_gib: float, fraction: float, tokens: int) -> None:
    args = ["--mem-fraction-static", fraction]
    memory = on(Place("a card", total_gib, cuda=True), engine="sglang", args=args)
    assert memory.cache_tokens == pytest.approx(tokens, rel=0.02)


def test_vllms_graphs_are_taken_off_the_cache() -> None:
    assert on("l4", args=["--enforce-eager"]).left_gib - on("l4").left_gib == pytest.approx(1.2)


def test_bytes_per_token_divide_among_cards_as_heads_do() -> None:
    assert kv_bytes_per_token(LLAMA, 1, 2) == 131_072
    assert kv_bytes_per_token(LLAMA, 8, 2) == 16_384
    assert kv_bytes_per_token(LLAMA, 16, 2) == 16_384  # a head is on every card, at least
    latent = LLAMA.model_copy(update={"layers": 61, "latent_dim": 576})
    assert kv_bytes_per_token(latent, 8, 2) == 61 * 576 * 2


def test_the_cache_holds_what_its_dtype_lets_it() -> None:
    sixteen, eight = on("l4"), on("l4", args=["--kv-cache-dtype", "fp8"])
    assert eight.kv_bytes_per_token * 2 == sixteen.kv_bytes_per_token
    assert eight.cache_tokens == pytest.approx(2 * sixteen.cache_tokens, abs=32)
    assert sixteen.cache_tokens % 16 == 0
    float32 = on("h100", dtype="float32")
    assert float32.weights_gib == pytest.approx(2 * LLAMA.weights_gib)
    assert float32.kv_bytes_per_token == 2 * sixteen.kv_bytes_per_token


def test_what_a_server_file_asks_for_counts() -> None:
    assert on("l4", cache_gib=1.0).cache_tokens == 2**30 // 131_072
    assert on("l40s", engine="sglang", cache_tokens=5000).cache_tokens == 5000
    assert on("h100", gpus=2).cards == 2
    cpu = on(Place("memory", 64.0, cuda=False), cache_gib=2.0, block_tokens=32, dtype="bfloat16")
    assert cpu.cache_tokens == 2 * 2**30 // 131_072 // 32 * 32


def test_sglangs_share_is_its_own_rule() -> None:
    # 0.5.23, arg_groups/memory_hook.py, by hand. L4: 512 + 1.5 * 4096 + 128 + 2 * 48 + 8 * 50 MiB.
    assert on("l4", engine="sglang").budget.usable_gib == pytest.approx(
        22.03 - 7280 / 1024, abs=0.02
    )
    # More than 60 GiB: at least 10 GiB are kept.
    h100 = on("h100", engine="sglang").budget
    assert h100.usable_gib == pytest.approx(79.1 - 13, abs=0.9)
    eager = on("l4", engine="sglang", args=["--disable-cuda-graph"]).budget
    assert eager.usable_gib == pytest.approx(22.03 - 6784 / 1024, abs=0.02)
    whole = on("h200", engine="sglang", args=["--chunked-prefill-size", -1]).budget
    assert whole.usable_gib < on("h200", engine="sglang").budget.usable_gib - 10
    set_ = on("h100", engine="sglang", args=["--mem-fraction-static", "0.8"]).budget
    assert set_.usable_gib == pytest.approx(0.8 * 79.1)


def test_a_model_too_large_for_its_card_is_told_what_would_mend_it() -> None:
    model = MODELS["Qwen3-32B"]
    server = ServerConfig.model_validate({"model": model.hub_id, "context_tokens": 8192})
    memory = memory_of(server, model, CARDS["l4"], "auto")
    assert not memory.fits
    words = shortfall(memory)
    assert words is not None
    assert words.startswith("the model does not fit on l4 (22.0 GiB): 61.0 GiB of weights")
    found = remedies(server, model, CARDS["l4"], "auto", CARDS)
    assert found[0] == "gpus: 4"
    assert not any(words == "gpus: 8" for words in found)  # four are enough
    assert found[-1] == "a larger card: h100, a100-80, h200, b200"
    for change in ({"gpus": 4},):
        assert memory_of(server.model_copy(update=change), model, CARDS["l4"], "auto").fits


CASES: list[tuple[str, Architecture, dict[str, Any]]] = [
    ("l4", LLAMA, {"context_tokens": 60_000}),
    ("l4", LLAMA, {"cache_gib": 30, "context_tokens": 4096}),
    ("l4", LLAMA, {"cache_gib": 6, "context_tokens": 40_960}),
    ("l4", LLAMA, {"cache_tokens": 100_000, "context_tokens": 40_960}),
    ("l4", LLAMA, {"cache_tokens": 2_000, "context_tokens": 4_096}),
    ("l4", MODELS["Qwen3-32B"], {"context_tokens": 8192}),
    ("l4", MODELS["Qwen2.5-7B-Instruct"], {"context_tokens": 100_000}),
    ("h100", MODELS["Qwen3-32B"], {"context_tokens": 30_000, "args": ["--seed", "a"]}),
    ("l40s", LLAMA, {"engine": "sglang", "context_tokens": 200_000}),
]


@pytest.mark.parametrize(("place", "model", "keys"), CASES)
def test_each_remedy_mends(place: str, model: Architecture, keys: dict[str, Any]) -> None:
    server = ServerConfig.model_validate({"model": "some/model", **keys})
    assert not on(place, model, **keys).fits
    found = remedies(server, model, CARDS[place], "auto", CARDS)
    assert found
    for words in found:
        key, _, value = words.partition(": ")
        if key == "a larger card":
            assert all(on(name, model, **keys).fits for name in value.split(", "))
            assert all(CARDS[n].memory_gib > CARDS[place].memory_gib for n in value.split(", "))
            continue
        changed = {**keys, key: None if value == "(leave it out)" else yaml.safe_load(value)}
        assert on(place, model, **changed).fits, words
        assert key != "args" or changed["args"][: len(keys.get("args", []))] == keys.get("args", [])


def test_heads_that_cards_do_not_divide() -> None:
    with pytest.raises(UsageError, match="gpus: 3 cards do not divide the model's 32 attention"):
        on("h100", gpus=3)
    model = MODELS["Qwen2.5-7B-Instruct"]  # 28 heads
    server = ServerConfig.model_validate({"model": "m", "context_tokens": 2_000_000})
    assert not any("gpus: 8" in x for x in remedies(server, model, CARDS["l4"], "auto", CARDS))


def test_blocks_and_cpu_caches_that_arguments_and_variables_ask_for() -> None:
    assert on("l4", args=["--num-gpu-blocks-override", 100]).cache_tokens == 1600
    cpu = Place("memory", 64.0, cuda=False)
    found = on(cpu, env={"VLLM_CPU_KVCACHE_SPACE": "1"}, block_tokens=32, dtype="bfloat16")
    assert found.cache_tokens == 2**30 // 131_072 // 32 * 32


def test_sglang_takes_what_there_is() -> None:
    keys: dict[str, Any] = {"engine": "sglang", "context_tokens": 4096}
    free = on("l40s", **keys)
    assert on("l40s", **keys, cache_tokens=10**7).cache_tokens == free.cache_tokens
    assert on("l40s", **keys, cache_tokens=10**7).fits


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--kv-cache-dtype", "fp8_per_token_head"], "its size per token is not known"),
        (["--kv-cache-dtype", "nvfp4"], "--kv-cache-dtype nvfp4: its size per token is not known"),
        (["--gpu-memory-utilization", "much"], "--gpu-memory-utilization much is no number above"),
        (["--gpu-memory-utilization", "nan"], "--gpu-memory-utilization nan is no number above"),
        (["--gpu-memory-utilization", "1.5"], "1.5 is more than all of it"),
        (["--max-num-seqs", "-2"], "--max-num-seqs -2 is no number above zero"),
        (["--pipeline-parallel-size", "2"], "what --pipeline-parallel-size does to the memory"),
        (["--cpu-offload-gb=4"], "what --cpu-offload-gb does to the memory"),
        (["--speculative_config", "{}"], "what --speculative-config does to the memory"),
        (["--quantization", "bitsandbytes"], "--quantization bitsandbytes of weights that are not"),
    ],
)
def test_what_cannot_be_computed_is_said(args: list[str], words: str) -> None:
    with pytest.raises(ToolkitError, match=words) as raised:
        on("h100", args=args)
    # A number that is none is the file's fault; what is not computed is ours.
    assert raised.value.exit_code == (2 if "no number" in words or "more than" in words else 3)


@pytest.mark.parametrize(
    ("keys", "same_as"),
    [
        ({"args": ["--gpu-memory-util", "0.5"]}, ["--gpu-memory-utilization", "0.5"]),
        ({"args": ["--max-num-batched=32768"]}, ["--max-num-batched-tokens", "32768"]),
        (
            {"engine": "sglang", "args": ["--mem-fraction", "0.5"]},
            ["--mem-fraction-static", "0.5"],
        ),
        (
            {"args": ["--no-enable-chunked-prefill"], "context_tokens": 65_536},
            ["--max-num-batched-tokens", "65536"],
        ),
    ],
)
def test_arguments_count_however_they_are_written(keys: dict[str, Any], same_as: Any) -> None:
    assert on("h100", **keys).left_gib == on("h100", **{**keys, "args": same_as}).left_gib
    assert on("h100", **keys).left_gib != on("h100", **{**keys, "args": []}).left_gib


@pytest.mark.parametrize(
    ("engine", "args"),
    [
        ("vllm", ["--pipeline-parallel", "2"]), ("vllm", ["-pcp", "2"]),
        ("vllm", ["--speculative-config.method", "eagle3"]), ("vllm", ["-sc", "{}"]),
        ("vllm", ["--spec-method", "eagle3"]), ("vllm", ["--enable-lora", "--max-loras", "32"]),
        ("vllm", ["--hf-overrides", "{}"]), ("vllm", ["--mamba-ssm-cache-dtype", "float32"]),
        ("vllm", ["--offload-group-size", "4"]), ("vllm", ["--data-parallel-size=2"]),
        ("sglang", ["--dp", "2"]), ("sglang", ["--enable-dp-attention"]),
        ("sglang", ["--speculative-algo", "NEXTN"]), ("sglang", ["--attn-cp-size", "2"]),
        ("sglang", ["--disable-hybrid-swa-memory"]), ("sglang", ["--mem-fraction-static", "0.99"]),
        ("vllm", ["--gpu-memory-utilization", "1.0"]),
    ],
)  # fmt: skip
def test_what_changes_the_sums_is_never_overlooked(engine: str, args: list[str]) -> None:
    with pytest.raises(NotSettledError):
        on("h100", engine=engine, args=args)


def test_what_does_nothing_is_let_through() -> None:
    plain = on("h100").left_gib
    for args in (["-pp", "1"], ["--data-parallel-size=1"], ["--cpu-offload-gb", "0"]):
        assert on("h100", args=args).left_gib == plain
    assert on("h100", engine="sglang", args=["--mem-fraction-static", "0.9"]).fits


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_arguments_that_are_not_computed_are_the_engines_own(engine: str) -> None:
    rules = table.engine(engine).memory
    assert rules is not None
    for name in rules.not_computed:
        assert any(fnmatchcase(flag, name) for flag in flags.known(engine)), name


def test_kv_heads_that_cards_do_not_divide() -> None:
    model = LLAMA.model_copy(update={"heads": 40, "kv_heads": 10})
    for cards in (1, 2, 5, 10, 20):
        assert on("h100", model, gpus=cards).cards == cards
    for cards in (4, 8):
        with pytest.raises(UsageError, match=f"gpus: {cards} cards and the model's 10 KV heads"):
            on("h100", model, gpus=cards)
    assert on("h100", model.model_copy(update={"latent_dim": 576}), gpus=4).cards == 4


def test_windows_beside_a_store_are_kept_whole() -> None:
    gemma = MODELS["gemma-3-27b-it"]
    plain = on("h100", gemma, context_tokens=32_768)
    off = on("h100", gemma, context_tokens=32_768, args=["--disable-hybrid-kv-cache-manager"])
    stored = on("h100", gemma, context_tokens=32_768, store={"chunk_tokens": 64})
    assert off.cache_tokens == stored.cache_tokens < plain.cache_tokens
    with pytest.raises(NotSettledError, match="beside the connector"):
        on("h100", gemma, args=["--kv-transfer-config", "{}"])
    assert on("h100", args=["--kv-transfer-config", "{}"]).fits  # all layers keep all


def test_an_encoder_is_not_taken_for_nothing() -> None:
    seeing = MODELS["Qwen2.5-7B-Instruct"].model_copy(update={"encoder": True})
    found = on("l4", seeing, context_tokens=8192)
    assert not found.fits
    words = undecided(found)
    assert words is not None
    assert "encoder" in words
    assert shortfall(found) is None
    assert on("l4", seeing, context_tokens=8192, args=["--language-model-only"]).fits
    assert on("h100", seeing, context_tokens=8192).fits


def test_what_engines_read_in_their_own_ways_must_be_said() -> None:
    long = LLAMA.model_copy(update={"context_tokens": None})
    with pytest.raises(NotSettledError, match="context_tokens: how long"):
        on("h100", long)
    assert on("h100", long, context_tokens=4096).fits
    eight = LLAMA.model_copy(update={"fp8_cache": True})
    with pytest.raises(NotSettledError, match="say --kv-cache-dtype fp8"):
        on("h100", eight)
    assert on("h100", eight, args=["--kv-cache-dtype", "fp8"]).kv_bytes_per_token == 65_536


def test_static_prefixes_share_the_cache_with_what_runs() -> None:
    assert resident(10_000, 2_000, 1_000) == 8
    assert resident(1_000, 2_000, 1_000) == 0
