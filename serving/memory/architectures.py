"""What a model is, as the arithmetic of memory needs it: its folder's files, a shipped file, or the
hub's."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from pydantic import ValidationError

from aot.configs.kernel.errors import NotSettledError, UsageError
from aot.configs.loading.presets import architectures
from aot.configs.schema.hardware import Architecture
from aot.serving.local.models import READY
from aot.serving.memory.layers import has_encoder, layers_of, text_of

GIB = 2**30
DTYPES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4}
"""Bytes of the dtypes of safetensors; all others are of one byte (huggingface/safetensors:
safetensors/src/tensor.rs)."""
HUB_TIMEOUT_S = 10.0
KV_HEADS = (
    "n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num",
    "num_attention_groups",
)  # fmt: skip
"""What configurations call them (vLLM: model_arch_config_convertor.py)."""
GROWN, YARN = ("default", "llama3", "deepseek_llama_scaling", "mrope"), ("yarn", "deepseek_yarn")
"""Kinds of rope scaling whose factor is in max_position_embeddings already; of the second SGLang
says so only where the original length stands beside it."""
ENCODER_ONLY = re.compile("Bert|Roberta|Electra|MPNet|Whisper|T5|Bart|CLIP|Siglip")
NAMES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}


def architecture(model: str, ask_hub: bool = True) -> Architecture:
    """`model`: a folder, or a hub id. From the folder; for a hub id from the hub's cache on this
    machine, else from a shipped file, else from the hub if it may be asked.

    Raises UsageError (files that say too little), NotSettledError (hub not reached, or it wants
    a token).
    """
    folder = snapshot(model)
    if folder is not None and (Path(model).is_absolute() or _weight_files(Path(folder))):
        return from_folder(Path(folder))
    shipped = {known.hub_id: known for known in architectures()}
    if model in shipped:
        return shipped[model]
    if not ask_hub:
        raise UsageError(f"{model}: not known here")
    return _from_hub(model)


def snapshot(model: str) -> str | None:
    """The folder of `model` on this machine: itself, or where the hub's cache has it.

    Raises UsageError for what is no id of the hub either.
    """
    if Path(model).is_absolute():
        return model
    try:
        cached = try_to_load_from_cache(model, READY)
    except HFValidationError:
        raise UsageError(f"model: {model} is neither a folder here nor an id of the hub") from None
    return str(Path(cached).parent) if isinstance(cached, str) else None


def from_folder(folder: Path) -> Architecture:
    """From config.json and the headers of the safetensors files of `folder`."""
    config = _json(folder / READY)
    files = _weight_files(folder)
    if not files:
        raise UsageError(f"{folder}: no *.safetensors there, so the weights cannot be weighed")
    counts: Counter[str] = Counter()
    for path in files:
        counts.update(_header_counts(path))
    if not counts:
        raise UsageError(f"{folder}: its safetensors files hold no weights; fetch the model again")
    return described(str(folder), config, counts, str(folder))


def described(
    name: str, config: Mapping[str, Any], values: Mapping[str, int], source: str
) -> Architecture:
    """From a config.json and the number of values of each safetensors dtype.

    Raises NotSettledError for models of whose layers it is not known what they keep, UsageError for
    a config.json that is none.
    """
    try:
        return _described(name, config, values, source)
    except KeyError as missing:
        raise NotSettledError(
            f"{name}: its config.json has no {missing}, so that what its layers keep is not known "
            "here; start the server and read 'KV cache' in its log"
        ) from None
    except ValidationError as failure:
        first = failure.errors()[0]
        raise UsageError(f"{name}: its config.json: {first['loc'][0]}: {first['msg']}") from None
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UsageError(f"{name}: its config.json is not that of a model: {error}") from None


def _described(
    name: str, config: Mapping[str, Any], values: Mapping[str, int], source: str
) -> Architecture:
    _refuse_other_kinds(name, config)
    text = text_of(config)
    kinds = layers_of(name, text)
    stored = sum(DTYPES.get(dtype, 1) * n for dtype, n in values.items())
    most = max(values, key=lambda dtype: values[dtype] * DTYPES.get(dtype, 1))
    quantized = config.get("quantization_config") or text.get("quantization_config") or {}
    dtype = quantized.get("quant_method") or NAMES.get(most, most)
    rank = text.get("kv_lora_rank")
    heads = text["num_attention_heads"]
    return Architecture(
        hub_id=name,
        source=source,
        weights_gib=stored / GIB,
        weights_dtype=dtype,
        layers=kinds.full + kinds.sliding,
        heads=heads,
        kv_heads=next((int(text[key]) for key in KV_HEADS if text.get(key)), heads),
        head_dim=text.get("head_dim") or text["hidden_size"] // heads,
        latent_dim=rank + (text.get("qk_rope_head_dim") or 0) if rank else None,
        hidden=text["hidden_size"],
        intermediate=_intermediate(text),
        vocabulary=text["vocab_size"],
        context_tokens=_context_tokens(text),
        sliding_layers=kinds.sliding,
        sliding_window=kinds.window,
        global_kv_heads=text.get("num_global_key_value_heads"),
        global_head_dim=text.get("global_head_dim"),
        state_layers=kinds.states,
        state_bytes=kinds.state_bytes,
        index_bytes=kinds.index_bytes,
        encoder=has_encoder(config),
        fp8_cache=bool(quantized.get("kv_cache_scheme") or quantized.get("kv_cache_quant_algo")),
    )


def _refuse_other_kinds(name: str, config: Mapping[str, Any]) -> None:
    """NotSettledError for what does not generate from one sequence."""
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    if config.get("is_encoder_decoder") or any(ENCODER_ONLY.search(kind) for kind in kinds):
        raise NotSettledError(
            f"{name}: what an encoder ({', '.join(kinds) or 'is_encoder_decoder'}) keeps is not "
            "known here; start the server and read 'KV cache' in its log"
        )


def _context_tokens(text: Mapping[str, Any]) -> int | None:
    """As vLLM and SGLang derive it (config/model.py, get_and_verify_max_len;
    utils/hf_transformers/common.py, get_context_length); None where they differ."""
    longest = int(text["max_position_embeddings"])
    rope = text.get("rope_scaling") or text.get("rope_parameters") or {}
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    own = "original_max_position_embeddings" in rope
    if kind in ("longrope", "su") or (kind in YARN and rope.get("factor") and not own):
        return None
    if kind in (*GROWN, *YARN) or "gemma3" in text["model_type"] or not rope.get("factor"):
        return longest
    return None if own else int(longest * rope["factor"])


def _intermediate(text: Mapping[str, Any]) -> int:
    """The width of a token's MLP: of the experts that it goes to, where there are any."""
    if experts := text.get("num_experts_per_tok"):
        return int((text.get("moe_intermediate_size") or text["intermediate_size"]) * experts)
    plain = text["intermediate_size"]
    return int(max(plain) if isinstance(plain, list) else plain)  # Gemma 3n has one a layer


def _weight_files(folder: Path) -> list[Path]:
    """Those that an engine loads. Where the same weights are there twice (consolidated.safetensors
    beside model-*.safetensors), the index or the names tell."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = {folder / name for name in _json(index)["weight_map"].values()}
        except (KeyError, AttributeError, TypeError):
            raise UsageError(f"{index}: has no weight_map; fetch the model again") from None
        return sorted(names) if all(path.exists() for path in names) else []
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))


def _header_counts(path: Path) -> Counter[str]:
    """Values per dtype, from the header: 8 bytes of its length, then JSON."""
    counts: Counter[str] = Counter()
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        for name, tensor in header.items():
            if name != "__metadata__":
                begin, end = tensor["data_offsets"]
                counts[tensor["dtype"]] += (end - begin) // DTYPES.get(tensor["dtype"], 1)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError):
        raise UsageError(f"{path}: not a safetensors file; fetch the model again") from None
    return counts


def _from_hub(model: str) -> Architecture:
    try:
        info = HfApi().model_info(model, timeout=HUB_TIMEOUT_S)  # first: it does not try again
        config = _json(Path(hf_hub_download(model, READY)))
    except GatedRepoError:
        raise NotSettledError(
            f"{model}: the hub wants a token of somebody who agreed to the model's terms; agree on "
            "its page, then export HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise UsageError(f"{model}: the hub knows no such model, or not for this token") from None
    except Exception as error:  # of whichever HTTP library the hub's client has
        words = " ".join(str(error).split())[:160]
        known = ", ".join(a.hub_id for a in architectures())
        raise NotSettledError(
            f"{model}: not on this machine, and the hub was not reached ({words}); put its folder "
            f"on this machine and name that as 'model', or take one that is known here: {known}"
        ) from None
    if info.safetensors is None:
        raise UsageError(f"{model}: has no safetensors on the hub to weigh")
    values = {str(dtype): n for dtype, n in info.safetensors.parameters.items()}
    return described(model, config, values, f"the hub: {model}")


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected an object")
    return data
