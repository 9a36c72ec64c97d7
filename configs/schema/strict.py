"""What every shape of a file has in common.

Every model refuses unknown keys: a misspelt setting that is silently dropped would make a
benchmark lie. Units are in the names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Strict


class StrictModel(BaseModel):
    """Unknown keys are errors, and so are words for numbers and for true; instances do not change
    after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


PathText = Annotated[Path, Strict(False)]
"""A path, written as text."""


def _as_text(value: object) -> object:
    # `args: [--max-num-seqs, 8]` is what people write; YAML makes the 8 a number.
    if isinstance(value, list):
        return [str(v) if isinstance(v, (int, float)) else v for v in value]
    return value


Arguments = Annotated[list[str], BeforeValidator(_as_text)]
"""Arguments of a program, verbatim."""
