"""A tiny random model of some kind, with the tokenizer of another: for the engine's Python.

python tiny_models.py KIND TOKENIZER_FOLDER OUT
"""

import shutil
import sys
from pathlib import Path

import torch
import transformers as t

USUAL = {
    "vocab_size": 49152, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
    "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
    "max_position_embeddings": 8192, "torch_dtype": "float32",
}  # fmt: skip


def window():
    layers = ["sliding_attention", "full_attention"] * 2
    config = t.Gemma3TextConfig(
        **USUAL, num_key_value_heads=2, head_dim=32, sliding_window=128, layer_types=layers
    )
    return t.Gemma3ForCausalLM(config)


def latent():
    """MLA, with what SGLang on a CPU wants of a configuration: long positions by YaRN."""
    yarn = {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "beta_fast": 32, "beta_slow": 1,
        "mscale": 0.707, "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096,
    }  # fmt: skip
    config = t.DeepseekV2Config(
        **USUAL, num_key_value_heads=4, kv_lora_rank=32, q_lora_rank=None, qk_rope_head_dim=16,
        qk_nope_head_dim=32, v_head_dim=32, head_dim=16, n_routed_experts=2, n_shared_experts=1,
        num_experts_per_tok=1, moe_intermediate_size=64, first_k_dense_replace=4,
        rope_parameters=yarn, moe_layer_freq=1,
    )  # fmt: skip
    return t.DeepseekV2ForCausalLM(config)


if __name__ == "__main__":
    kind, tokenizer, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    torch.manual_seed(0)
    {"window": window, "latent": latent}[kind]().save_pretrained(out, safe_serialization=True)
    for file in tokenizer.iterdir():
        if (
            "token" in file.name
            or "template" in file.name
            or file.name in ("vocab.json", "merges.txt")
        ):
            shutil.copy(file, out)
