"""The shape of configs/cards/NAME.yaml: what a GPU has, as the arithmetic of memory needs it."""

from __future__ import annotations

from pydantic import Field

from aot.configs.schema.strict import StrictModel


class Card(StrictModel):
    """One kind of GPU."""

    names: list[str] = Field(min_length=1, description="how nvidia-smi calls it")
    memory_gib: float = Field(
        gt=0, description="total memory that CUDA reports: less than what is printed on the box"
    )
    fp8: bool = Field(description="computes FP8: compute capability 8.9 or higher")
    source: str = Field(description="where the memory was seen")
