"""What every shape of a file has in common.

Every model refuses unknown keys: a misspelt setting that is silently dropped would make a
benchmark lie. Units are in the names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Strict,
    StringConstraints,
)


class StrictModel(BaseModel):
    """Unknown keys are errors, and so are words for numbers and for true; instances do not change
    after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


PathText = Annotated[Path, Strict(False)]
"""A path, written as text."""


def _mountable(path: Path) -> Path:
    if ":" in str(path):
        raise ValueError("containers cannot be given a folder with a colon in its name")
    return path


def _of_the_host(path: Path) -> Path:
    if not path.is_absolute() and not str(path).startswith("~"):
        raise ValueError("an absolute path, or one from ~: a relative one would name a volume")
    return path


MountedText = Annotated[PathText, AfterValidator(_mountable)]
"""A path that a container may be given."""
HostText = Annotated[MountedText, AfterValidator(_of_the_host)]
"""The same, wherever it is read from."""
ClusterName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=253)
]
"""Of a thing of Kubernetes (RFC 1123)."""


def _as_text(value: object) -> object:
    # `args: [--max-num-seqs, 8]` is what people write; YAML makes the 8 a number.
    if isinstance(value, list):
        return [str(v) if isinstance(v, (int, float)) else v for v in value]
    return value


Arguments = Annotated[list[str], BeforeValidator(_as_text)]
"""Arguments of a program, verbatim."""
Namespace = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
]
"""Of Kubernetes, in which all things have a name of their own."""
