"""What a model is, from its files, and what is said where they do not tell."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.errors import ToolkitError, UsageError
from serving import architectures
from serving.architectures import architecture, from_folder

CONFIG: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 2048,
}


def model_folder(folder: Path, config: Mapping[str, Any], dtype: str = "BF16") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights(folder / "model.safetensors", {"a": (dtype, 4096), "b": (dtype, 1024)})
    return folder


def weights(path: Path, tensors: Mapping[str, tuple[str, int]]) -> None:
    """A safetensors file of such dtypes and sizes in bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (dtype, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))


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
        ({"num_hidden_layers": None}, "config.json: layers"),
        ({"layer_types": ["linear_attention"]}, "layers of the kind linear_attention hold a state"),
        ({"num_attention_heads": ...}, "its config.json has no 'num_attention_heads'"),
    ],
)
def test_a_config_that_does_not_tell(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    config = {k: v for k, v in {**CONFIG, **change}.items() if v is not ...}
    with pytest.raises(UsageError, match=words):
        from_folder(model_folder(tmp_path / "m", config))


def test_files_that_are_none(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "m", CONFIG)
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UsageError, match=r"model.safetensors: not a safetensors file"):
        from_folder(folder)
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
        ToolkitError, match=r"the hub was not reached .*known here: .*Qwen/Qwen3-8B"
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
