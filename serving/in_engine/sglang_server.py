"""Starts the unmodified SGLang server. Runs in SGLang's environment, not in ours.

usage: python sglang_server.py SGLANG_SERVER_ARGUMENT ...

An API key comes in AOT_SGLANG_API_KEY: SGLang itself takes it as an argument only, which every
process list shows, and logs it. On a GPU that is all. With AOT_SGLANG_DEVICE=cpu it supplies in
memory what the wheels lack on a host without a GPU, before SGLang is imported; no file of SGLang is
touched:

1. Beside torch+cpu, PyPI's torchvision looks for operators that its CUDA build would register
   ("operator torchvision::nms does not exist"). Their schemas are declared; text models call none.
2. The only published kernel wheel (sgl_kernel) needs libcuda. A stand-in module takes its place;
   the torch-native path calls none of it, and any call raises NotImplementedError.
3. Only with AOT_SGLANG_PREFIX_ATTENTION=1: a hook through SGLang's own plugin registry attends from
   the new tokens only. Stock torch_native redoes attention over the cached prefix, so that a cache
   hit saves only the linear layers. With the hook, timings are a property of SGLang's cache and
   this attention, not of stock torch_native: say so wherever they are shown.

SGLang spawns its scheduler and detokenizer with the 'spawn' method, which runs this file again in
each of them: everything above the main guard must stay there.
"""

import importlib.abc
import importlib.machinery
import os
import sys
import types

ON_CPU = os.environ.get("AOT_SGLANG_DEVICE", "cpu") == "cpu"
PREFIX_ATTENTION = os.environ.get("AOT_SGLANG_PREFIX_ATTENTION") == "1"
QUERY_BLOCK = 256  # bounds the mask and the scores to block × sequence


class Hidden(str):
    """An API key that does not show where SGLang logs its arguments."""

    __slots__ = ()

    def __repr__(self):
        return "'(hidden)'"


class Missing:
    """A name of the kernel wheel: may be imported and passed on, not called."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Missing(f"{self._name}.{name}")

    def __call__(self, *_args, **_kwargs):
        raise NotImplementedError(f"{self._name} has no CPU kernel here")


class StandIn(types.ModuleType):
    """A module that has every name."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Missing(f"{self.__name__}.{name}")


class StandInFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds sgl_kernel and every submodule of it."""

    def find_spec(self, name, path=None, target=None):
        if name == "sgl_kernel" or name.startswith("sgl_kernel."):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        module.__path__ = []


def declare_torchvision_operators():
    import torch

    if "+cpu" not in torch.__version__:
        return None
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def attend_from_new_tokens(
    original, self, query, output, k_cache, v_cache, req_to_token, req_pool_indices,
    seq_lens, extend_prefix_lens, extend_seq_lens, encoder_lens=None, scaling=None,
    enable_gqa=False, causal=False, is_cross_attn=False, sliding_window_size=None,
):  # fmt: skip
    """TorchNativeAttnBackend._run_sdpa_forward_extend without the padded queries."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    if encoder_lens is not None or is_cross_attn or not causal or sliding_window_size is not None:
        return original(
            self, query, output, k_cache, v_cache, req_to_token, req_pool_indices, seq_lens,
            extend_prefix_lens, extend_seq_lens, encoder_lens, scaling=scaling,
            enable_gqa=enable_gqa, causal=causal, is_cross_attn=is_cross_attn,
            sliding_window_size=sliding_window_size,
        )  # fmt: skip
    start = 0
    for index, (total, cached, new) in enumerate(
        zip(seq_lens.tolist(), extend_prefix_lens.tolist(), extend_seq_lens.tolist(), strict=True)
    ):
        tokens = req_to_token[req_pool_indices[index], :total]
        keys = k_cache[tokens].movedim(0, 1).unsqueeze(0).to(query.dtype)
        values = v_cache[tokens].movedim(0, 1).unsqueeze(0).to(query.dtype)
        for low in range(0, new, QUERY_BLOCK):
            high = min(low + QUERY_BLOCK, new)
            seen = cached + high
            rows = torch.arange(cached + low, seen).unsqueeze(1)
            mask = torch.arange(seen).unsqueeze(0) <= rows
            attention = scaled_dot_product_attention(
                query[start + low : start + high].movedim(0, 1).unsqueeze(0),
                keys[:, :, :seen],
                values[:, :, :seen],
                attn_mask=mask,
                scale=scaling,
                enable_gqa=enable_gqa,
            )
            output[start + low : start + high] = attention.squeeze(0).movedim(1, 0)
        start += new
    return output


def register_prefix_attention():
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(
        "sglang.srt.layers.attention.torch_native_backend.TorchNativeAttnBackend"
        "._run_sdpa_forward_extend",
        attend_from_new_tokens,
        HookType.AROUND,
    )


if ON_CPU:
    os.environ.setdefault("SGLANG_USE_CPU_ENGINE", "1")
    LIBRARY = declare_torchvision_operators()  # unregistered when it is collected
    sys.meta_path.insert(0, StandInFinder())
    if PREFIX_ATTENTION:
        register_prefix_attention()

if __name__ == "__main__":
    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args

    arguments = prepare_server_args(sys.argv[1:])
    if key := os.environ.pop("AOT_SGLANG_API_KEY", None):
        arguments.api_key = Hidden(key)
    run_server(arguments)
