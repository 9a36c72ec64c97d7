"""Options that take compiled prompts: files, or folders of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from aot.scripts.terminal import note


def tell_left_out(given: Sequence[Path] | None) -> Sequence[Path] | None:
    """Name what lies beside compiled prompts and is none: it is not warmed."""
    from aot.workloads.prompts import compiled

    for path in compiled.left_out(given or ()):
        note(f"left out: {path} is no compiled prompt")
    return given


ServeWarm = Annotated[
    list[Path] | None,
    typer.Option(
        callback=tell_left_out,
        help="compiled.json, or a folder of them; repeatable: nobody is answered before it is in "
        "the cache of every engine, after a rollout too",
    ),
]
RenderWarm = Annotated[
    list[Path] | None,
    typer.Option(
        callback=tell_left_out,
        help="k8s, compose: compiled.json, or a folder of them, to go with it",
    ),
]
