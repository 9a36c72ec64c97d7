"""What a model is, from its files, and what is said where they do not tell."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.model_files import CONFIG, model_folder, weights

from aot.configs.kernel.errors import NotSettledError, ToolkitError, UsageError
from aot.serving.memory import architectures
from aot.serving.memory.architectures import architecture, from_folder


def test_a_folder_tells_layers_heads_and_weights(tmp_path: Path) -> None:
    model = from_folder(model_folder(tmp_path / "m", CONFIG))
    assert (model.layers, model.kv_heads, model.head_dim) == (2, 2, 16)
    assert model.weights_gib * 2**30 == pytest.approx(5120)
    assert model.weights_dtype == "bfloat16"


def test_text_models_inside_others_and_sliding_windows(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention"]
    config = {
        "text_config": {**CONFIG, "layer_types": kinds, "sliding_window": 128, "head_dim": 32}
    }
    model = from_folder(model_folder(tmp_path / "m", config))
    assert (model.sliding_layers, model.sliding_window, model.head_dim) == (1, 128, 32)


def test_latent_attention_and_experts(tmp_path: Path) -> None:
    more = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "num_experts_per_tok": 8}
    more["model_type"] = "deepseek_v3"
    config = {**CONFIG, **more, "moe_intermediate_size": 32}
    model = from_folder(model_folder(tmp_path / "m", config))
    assert model.latent_dim == 576
    assert model.intermediate == 8 * 32


def test_quantized_weights_weigh_what_is_stored(tmp_path: Path) -> None:
    config = {**CONFIG, "quantization_config": {"quant_method": "mxfp4"}}
    model = from_folder(model_folder(tmp_path / "m", config, "U8"))
    assert model.weights_dtype == "mxfp4"
    assert model.weights_gib * 2**30 == pytest.approx(5120)


def test_the_same_weights_in_two_formats_are_weighed_once(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", CONFIG)
    weights(folder / "consolidated.safetensors", {"a": ("BF16", 9000)})
    assert from_folder(folder).weights_gib * 2**30 == pytest.approx(5120)
    (folder / "model.safetensors").rename(folder / "part-1.safetensors")
    index = {"weight_map": {"a": "part-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert from_folder(folder).weights_gib * 2**30 == pytest.approx(5120)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": None}, "its config.json is not that of a model"),
        ({"intermediate_size": None}, "its config.json is not that of a model"),
        ({"num_attention_heads": 0}, "its config.json is not that of a model"),
        ({"hidden_size": "64"}, "its config.json is not that of a model"),
        ({"text_config": "x"}, "its config.json"),
        ({"quantization_config": "fp8"}, "its config.json is not that of a model"),
        ({"layer_types": 5}, "its config.json is not that of a model"),
        ({"layer_types": ["mamba"]}, "its config.json has no mamba_num_heads"),
        ({"attn_layer_period": 8}, "what some of its layers keep is not known .*attn_layer_period"),
        ({"compress_ratios": [4]}, "what some of its layers keep is not known .*compress_ratios"),
        ({"layer_types": ["rwkv"]}, "what some of its layers keep is not known here .rwkv."),
        ({"layer_types": ["linear_attention"]}, "config.json: layers: Input should be greater"),
        ({"num_attention_heads": ...}, "its config.json has no 'num_attention_heads'"),
    ],
)
def test_a_config_that_does_not_tell(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    config = {k: v for k, v in {**CONFIG, **change}.items() if v is not ...}
    with pytest.raises(ToolkitError, match=words) as raised:
        from_folder(model_folder(tmp_path / "m", config))
    # A file that is wrong is one thing, and a model that is not known here another.
    unknown = "is not known" in words or "has no" in words
    assert raised.value.exit_code == (3 if unknown else 2)


OTHERS: dict[str, dict[str, Any]] = {
    "a latent that is unfolded again": {"model_type": "minicpm3", "kv_lora_rank": 256},
    "Bamba": {"attn_layer_indices": [9, 18, 27], "mamba_n_heads": 128, "mamba_d_state": 256},
    "states without a word on where": {"mamba_d_state": 16, "mamba_d_conv": 4},
    "recurrentgemma": {"block_types": ["recurrent", "recurrent", "attention"], "lru_width": 4096},
    "Phi-4-mini-flash": {"mb_per_layer": 2, "mamba_d_state": 16},
    "LFM2": {"full_attn_idxs": [2, 5, 8]},
    "MiniMax-01": {"attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1]},
    "Mllama": {"cross_attention_layers": [3, 8]},
    "windows in a pattern of letters": {"sliding_window_pattern": "LLLG", "sliding_window": 4096},
    "an encoder": {"architectures": ["XLMRobertaModel"]},
    "an encoder and a decoder": {"architectures": ["WhisperForX"], "is_encoder_decoder": True},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_understood_is_not_read_as_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotSettledError, match="not known here"):
        from_folder(model_folder(tmp_path / "m", {**CONFIG, **OTHERS[name]}))


def test_what_others_call_it_is_read(tmp_path: Path) -> None:
    def made(**change: Any) -> Any:
        config = {k: v for k, v in {**CONFIG, **change}.items() if v is not ...}
        return from_folder(model_folder(tmp_path / "m", config))

    for key in ("num_kv_heads", "num_attention_groups", "multi_query_group_num", "n_head_kv"):
        assert made(num_key_value_heads=..., **{key: 1}).kv_heads == 1
    assert made(attn_type_list=[1, 1]).layers == 2
    assert made(intermediate_size=[64, 128]).intermediate == 128
    windows = {"sliding_window": 128, "num_hidden_layers": 8}
    assert made(model_type="cohere2", sliding_window_pattern=4, **windows).sliding_layers == 6
    assert made(model_type="gemma2", **windows).sliding_layers == 4
    for key in ("llm_config", "language_config"):
        nested = {key: CONFIG, "vision_config": {"depth": 32}}
        assert from_folder(model_folder(tmp_path / key, nested)).encoder
    assert made(img_processor={"name": "clip"}).encoder
    assert made(mm_vision_tower="openai/clip").encoder
    assert not made(image_token_id=7, vision_start_token_id=8).encoder  # of a text model's family
    omni = {"thinker_config": {"text_config": CONFIG, "audio_config": {"n": 1}}}
    assert from_folder(model_folder(tmp_path / "omni", omni)).encoder
    text = {k: v for k, v in CONFIG.items() if k != "num_attention_heads"}
    pixtral = {"model_type": "llava", "text_config": {**text, "model_type": "mistral"}}
    assert from_folder(model_folder(tmp_path / "pixtral", pixtral)).heads == 32
    scheme = {"quant_method": "modelopt", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    assert made(quantization_config=scheme).fp8_cache


@pytest.mark.parametrize(
    ("rope", "longest"),
    [
        ({}, 1), ({"type": "linear", "factor": 4.0}, 4),
        ({"rope_type": "dynamic", "factor": 2.0}, 2),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 1),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}, 1),
        ({"rope_type": "yarn", "factor": 4.0}, None), ({"type": "mrope"}, 1),
        ({"type": "longrope", "short_factor": [1.0]}, None),
    ],
)  # fmt: skip
def test_a_context_is_as_long_as_engines_take_it(
    tmp_path: Path, rope: dict[str, Any], longest: int | None
) -> None:
    model = from_folder(model_folder(tmp_path / "m", {**CONFIG, "rope_scaling": rope}))
    plain = int(CONFIG["max_position_embeddings"])
    assert model.context_tokens == (None if longest is None else longest * plain)


def test_files_that_are_none(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", CONFIG)
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UsageError, match=r"model.safetensors: not a safetensors file"):
        from_folder(folder)
    for header in ({}, {"__metadata__": {}}, []):
        text = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
        with pytest.raises(UsageError, match="fetch the model again"):
            from_folder(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text("{}")
    with pytest.raises(UsageError, match="has no weight_map"):
        from_folder(folder)
    index.unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"no \*.safetensors there"):
        from_folder(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config.json: cannot be read"):
        from_folder(folder)


def test_a_hub_that_is_not_reached_names_what_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(architectures.HfApi, "model_info", unreachable)
    with pytest.raises(
        NotSettledError, match=r"the hub was not reached .*known here: .*Qwen/Qwen3-8B"
    ):
        architecture("some/model")
    with pytest.raises(UsageError, match="neither a folder here nor an id of the hub"):
        architecture("a/b/c")


def test_what_the_hub_says_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = SimpleNamespace(safetensors=SimpleNamespace(parameters={"BF16": 1_000_000, "F32": 10}))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG))
    monkeypatch.setattr(architectures.HfApi, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(architectures, "hf_hub_download", lambda *_: str(path))
    model = architecture("some/model")
    assert model.weights_gib * 2**30 == pytest.approx(2_000_040)
    assert model.source == "the hub: some/model"


def test_the_hubs_cache_on_this_machine_comes_before_a_shipped_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path / "snapshot", CONFIG)
    monkeypatch.setattr(
        architectures, "try_to_load_from_cache", lambda *_: str(folder / "config.json")
    )
    assert architecture("Qwen/Qwen3-8B").layers == 2
