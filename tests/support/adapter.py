"""A LoRA adapter of a Llama model, of zeros, as peft writes one."""

from __future__ import annotations

import json
import struct
from pathlib import Path

RANK = 8


def adapter(folder: Path, model: Path) -> Path:
    """On the queries of all layers of the model in `model`."""
    config = json.loads((model / "config.json").read_text())
    wide = config["hidden_size"]
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": RANK,
             "target_modules": ["q_proj"], "bias": "none", "base_model_name_or_path": str(model)}
        )
    )  # fmt: skip
    header, offset = {}, 0
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        for part, shape in (("lora_A", [RANK, wide]), ("lora_B", [wide, RANK])):
            size = 4 * RANK * wide
            header[f"{name}.{part}.weight"] = {
                "dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]
            }  # fmt: skip
            offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "adapter_model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + bytes(offset)
    )
    return folder
