"""The shapes of configs/cards/NAME.yaml, what a GPU has, and of configs/architectures/NAME.yaml,
what of a model decides the memory that it needs."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from aot.configs.schema.strict import StrictModel


class Card(StrictModel):
    """One kind of GPU."""

    names: list[str] = Field(min_length=1, description="how nvidia-smi calls it")
    memory_gib: float = Field(
        gt=0, description="total memory that CUDA reports: less than what is printed on the box"
    )
    fp8: bool = Field(description="computes FP8: compute capability 8.9 or higher")
    source: str = Field(description="where the memory was seen")


class Architecture(StrictModel):
    """One model. For those whose files are not on this machine, a shipped file stands in."""

    hub_id: str = Field(description="the model on the hub, or the folder that was read")
    source: str = Field(description="where the numbers are from")
    weights_gib: float = Field(gt=0, description="weights as the checkpoint stores them")
    weights_dtype: str = Field(description="bfloat16, float16, float32; or how it is quantized")
    layers: int = Field(gt=0, description="layers with a KV cache of keys and values")
    heads: int = Field(gt=0, description="attention heads: tensor parallelism divides them")
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    latent_dim: int | None = Field(
        None, gt=0, description="multi-head latent attention: numbers per token and layer"
    )
    hidden: int = Field(gt=0, description="width of the residual stream")
    intermediate: int = Field(gt=0, description="width of the MLP; of all active experts together")
    vocabulary: int = Field(gt=0)
    context_tokens: int | None = Field(
        gt=0,
        description="longest context that the model was made for; None: engines differ on it",
    )
    sliding_layers: int = Field(0, ge=0, description="those of `layers` that attend to a window")
    sliding_window: int | None = Field(None, gt=0, description="tokens of that window")
    global_kv_heads: int | None = Field(
        None, gt=0, description="KV heads of the layers without a window, where they are others"
    )
    global_head_dim: int | None = Field(None, gt=0, description="likewise")
    state_layers: int = Field(
        0, ge=0, description="layers that keep a state instead (linear attention, Mamba)"
    )
    state_bytes: int | None = Field(
        None, gt=0, description="of one of them, for one request; divided among cards"
    )
    index_bytes: int = Field(
        0, ge=0, description="a token and layer of sparse attention's index, on every card"
    )
    encoder: bool = Field(
        False, description="of images or sound, whose activations were seen in no log"
    )
    fp8_cache: bool = Field(
        False, description="the checkpoint asks for one itself, which not every engine heeds"
    )
    gated: bool = Field(False, description="the hub wants a token of somebody who agreed to terms")

    @model_validator(mode="after")
    def _sliding_layers_have_a_window(self) -> Self:
        if bool(self.sliding_layers) != bool(self.sliding_window):
            raise ValueError("sliding_layers and sliding_window belong together")
        if self.sliding_layers > self.layers:
            raise ValueError("sliding_layers are some of the layers, not more")
        if bool(self.state_layers) != bool(self.state_bytes):
            raise ValueError("state_layers and state_bytes belong together")
        return self
